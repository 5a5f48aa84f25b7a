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

// NewStage makes the tasks of one stage from its part of the configuration: the
// sink has two, the others one. It checks, and connects to nothing.
func NewStage(ctx context.Context, stage config.Command, cfg config.Config, options Options) ([]lifecycle.Task, error) {
	log := options.Log
	broker := cfg.Kafka
	broker.ClientID += "-" + string(stage)
	named := func(run func(context.Context) error) lifecycle.Task {
		return lifecycle.Task{Name: string(stage), Run: run}
	}
	switch stage {
	case config.CommandFetcher:
		made, err := fetcher.New(ctx, fetcher.Options{
			Config: cfg.Fetcher, Sources: cfg.Sources, S3: cfg.S3, Topics: cfg.Topics, Kafka: broker,
			Log: log.With("stage", stage), Registerer: options.Registry, Health: options.Health, AtStep: atSplitStep,
		})
		if err != nil {
			return nil, err
		}
		return []lifecycle.Task{named(made.Run)}, nil
	case config.CommandEnricher:
		sources, err := AuditSources(cfg.Sources)
		if err != nil {
			return nil, err
		}
		made, err := enricher.New(enricher.Options{
			Kafka: cfg.Kafka, Topics: cfg.Topics.Names(), LineLimit: int64(cfg.Topics.LineLimit), // it adds its name itself
			Enricher: cfg.Enricher, Sources: sources,
			Log: log, Registerer: options.Registry, Health: options.Health,
		})
		if err != nil {
			return nil, err
		}
		return []lifecycle.Task{named(made.Run)}, nil
	case config.CommandSink:
		// Each has options of its own: clients that are made of the same ones write
		// to memory that these share.
		client, err := kafka.Options(broker, log.With("stage", stage), options.Registry)
		if err != nil {
			return nil, err
		}
		broker.ClientID = cfg.Kafka.ClientID + "-ledger"
		ledgerClient, err := kafka.Options(broker, log.With("stage", "ledger"), options.Registry)
		if err != nil {
			return nil, err
		}
		common := sink.Options{
			Config: cfg.Sink, ClickHouse: cfg.ClickHouse, AcceptGap: cfg.Kafka.AcceptGap,
			DeadLetter: cfg.Topics.Names().DeadLetter, Log: log, Registerer: options.Registry, Health: options.Health,
		}
		events, ledger := common, common
		events.Client, ledger.Client = client, ledgerClient
		events.Topic, events.Rows, events.Group, events.Hook = cfg.Topics.Names().Normalized, sink.Events, cfg.Kafka.Group+"-sink", atSinkStep
		ledger.Name, ledger.Topic, ledger.Rows, ledger.Group = "ledger", cfg.Topics.Names().Ledger, sink.Ledger, cfg.Kafka.Group+"-ledger"
		ofEvents, err := sink.New(events)
		if err != nil {
			return nil, err
		}
		ofLedger, err := sink.New(ledger)
		if err != nil {
			return nil, err
		}
		return []lifecycle.Task{named(ofEvents.Run), named(ofLedger.Run)}, nil
	default:
		return nil, fmt.Errorf("%s is not a stage", stage)
	}
}

// AuditSources are the configured sources as the enricher knows them, by id.
func AuditSources(configured []config.Source) (map[string]*audit.Source, error) {
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
