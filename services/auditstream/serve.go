package main

import (
	"context"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/lifecycle"
	"github.com/auditstream/auditstream/services/auditstream/stack"
)

func (a *application) fetcherCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "fetcher",
		Short:   "S3 objects → raw lines in Kafka",
		GroupID: groupRun,
		Long: `Finds new objects in the sources' buckets, announces each in the topic objects,
and splits it into lines in the topic raw, in Kafka transactions: a line is
there once, whatever crashes. An object larger than memory is read in slices.

Needs kafka.brokers, at least one of sources, the topics (auditstream topics
apply), and an object store: AWS with its own credential chain, or s3.endpoint.
Run as many as topic objects has partitions. Example, auditstream.yaml:

    kafka: {brokers: ["kafka:9092"]}
    s3: {region: eu-central-1}
    sources:
      - {id: production, bucket: audit-logs, prefix: production/}

    auditstream fetcher` + stageNotes,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return a.serveStage(command.Context(), config.CommandFetcher)
		},
	}
}

func (a *application) enricherCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "enricher",
		Short:   "raw lines → normalized events in Kafka",
		GroupID: groupRun,
		Long: `Turns each line of the topic raw into events of 69 columns in the topic
normalized, or a dead letter with its reason, in Kafka transactions. Adds places
and networks of addresses when MaxMind databases are configured.

Needs kafka.brokers, sources, and the topics (auditstream topics apply). Run as
many as topic raw has partitions. Example, auditstream.yaml:

    kafka: {brokers: ["kafka:9092"]}
    sources:
      - {id: production, bucket: audit-logs, tags: {cluster: production}}
    enricher:
      geoip: {directory: /var/lib/GeoIP}

    auditstream enricher` + stageNotes,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return a.serveStage(command.Context(), config.CommandEnricher)
		},
	}
}

func (a *application) sinkCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "sink",
		Short:   "normalized events → rows in ClickHouse",
		GroupID: groupRun,
		Long: `Inserts the events of the topic normalized into ClickHouse in batches. What a
batch holds is recorded in Kafka before it goes in, so that after a crash the
next owner proves by row id what is there, and completes it.

Needs kafka.brokers, clickhouse.addresses, the topics (auditstream topics
apply), and the table: auditstream schema apply, or clickhouse.createTable. A
table that can't be written exactly once is refused, with what to change. Run as
many as topic normalized has partitions. Example, auditstream.yaml:

    kafka: {brokers: ["kafka:9092"]}
    clickhouse:
      addresses: ["clickhouse:9000"]
      username: auditstream
      passwordFile: /run/secrets/clickhouse

    auditstream sink` + stageNotes,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return a.serveStage(command.Context(), config.CommandSink)
		},
	}
}

const stageNotes = `

Give each instance a name that survives a restart (kafka.instance; default the
host name). /metrics, /healthz, /readyz and /debug/pprof are on admin.address.
SIGTERM finishes what is under way and exits 0; a second one ends at once.`

// process is what every long-running command reports to.
type process struct {
	cfg      config.Config
	log      *slog.Logger
	registry *prometheus.Registry
	health   *telemetry.Health
	admin    net.Listener // nil without an address
}

// newProcess loads the configuration and takes the admin address, so that one
// in use is known before anything starts.
func (a *application) newProcess(ctx context.Context, command config.Command) (*process, error) {
	cfg, err := a.load(command)
	if err != nil {
		return nil, err
	}
	log := telemetry.NewLogger(a.stderr, cfg.Log)
	p := &process{cfg: cfg, log: log, registry: telemetry.NewRegistry(), health: telemetry.NewHealth(log)}
	if cfg.Admin.Address != "" {
		if p.admin, err = telemetry.Listen(ctx, cfg.Admin); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *process) options() stack.Options {
	return stack.Options{Log: p.log, Registry: p.registry, Health: p.health}
}

// tasks are the process's own, beside its work.
func (p *process) tasks() []lifecycle.Task {
	if p.admin == nil {
		return nil
	}
	return []lifecycle.Task{{Name: "admin server", Run: func(ctx context.Context) error {
		return telemetry.ServeListener(ctx, p.admin, p.registry, p.health, p.log)
	}}}
}

// serveStage runs one stage and the admin server until ctx is done.
func (a *application) serveStage(ctx context.Context, stage config.Command) error {
	p, err := a.newProcess(ctx, stage)
	if err != nil {
		return err
	}
	tasks, err := stack.NewStage(ctx, stage, p.cfg, p.options())
	if err != nil {
		return err
	}
	build := telemetry.ReadBuild()
	p.log.Info("start", "stage", stage, "version", build.Version, "commit", build.Revision, "instance", p.cfg.Kafka.Instance)
	if err := lifecycle.Run(ctx, lifecycle.Grace, append(p.tasks(), tasks...)...); err != nil {
		return err
	}
	p.log.Info("finished", "stage", stage)
	return nil
}
