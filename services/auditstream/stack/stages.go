package stack

import (
	"context"
	"fmt"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/services/auditstream/lifecycle"
	"github.com/auditstream/auditstream/services/enricher"
	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/services/sink"
)

// NewStage makes one stage from its part of the configuration. It checks, and
// connects to nothing.
func NewStage(ctx context.Context, stage config.Command, cfg config.Config, options Options) (lifecycle.Task, error) {
	log := options.Log
	broker := cfg.Kafka
	broker.ClientID += "-" + string(stage)
	task := lifecycle.Task{Name: string(stage)}
	switch stage {
	case config.CommandFetcher:
		made, err := fetcher.New(ctx, fetcher.Options{
			Config: cfg.Fetcher, Sources: cfg.Sources, S3: cfg.S3, Topics: cfg.Topics, Kafka: broker,
			Log: log.With("stage", stage), Registerer: options.Registry, Health: options.Health, AtStep: atSplitStep,
		})
		if err != nil {
			return task, err
		}
		task.Run = made.Run
	case config.CommandEnricher:
		sources, err := auditSources(cfg.Sources)
		if err != nil {
			return task, err
		}
		made, err := enricher.New(enricher.Options{
			Kafka: cfg.Kafka, Topics: cfg.Topics.Names(), LineLimit: int64(cfg.Topics.LineLimit), // it adds its name itself
			Enricher: cfg.Enricher, Sources: sources,
			Log: log, Registerer: options.Registry, Health: options.Health,
		})
		if err != nil {
			return task, err
		}
		task.Run = made.Run
	case config.CommandSink:
		client, err := kafka.Options(broker, log.With("stage", stage), options.Registry)
		if err != nil {
			return task, err
		}
		made, err := sink.New(sink.Options{
			Config: cfg.Sink, ClickHouse: cfg.ClickHouse, Topic: cfg.Topics.Names().Normalized, Rows: sink.Events,
			Group: cfg.Kafka.Group + "-sink", Client: client, AcceptGap: cfg.Kafka.AcceptGap,
			Log: log, Registerer: options.Registry, Health: options.Health, Hook: atSinkStep,
		})
		if err != nil {
			return task, err
		}
		task.Run = made.Run
	default:
		return task, fmt.Errorf("%s is not a stage", stage)
	}
	return task, nil
}

func auditSources(configured []config.Source) (map[string]*audit.Source, error) {
	sources := make(map[string]*audit.Source, len(configured))
	for i := range configured {
		source, err := AuditSource(&configured[i])
		if err != nil {
			return nil, err
		}
		sources[source.ID] = source
	}
	return sources, nil
}
