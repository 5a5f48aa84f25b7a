package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/services/auditstream/trace"
)

func (a *application) traceCommand() *cobra.Command {
	var since string
	var asJSON bool
	var timeout time.Duration
	command := &cobra.Command{
		Use:     "trace ID|auditID|S3-URI[:LINE]",
		Short:   "Follow one event, line or object through the pipeline",
		GroupID: groupPrepare,
		Long: `Says where an event is at each hop, and when it came there: the object and its
announcement, the topics raw and normalized with partition and offset, the dead
letter or the skip, the row. Where it isn't, it says whether it is no longer there
(retention), not there yet (a stage has not come to it), or not there.

What to look for is the id of a row, the id of an object (32 hexadecimal digits),
s3://bucket/key with a line or without, or else an audit id, which has a row for
each stage of the request. An audit id that the table doesn't know is looked for
in the topics, of the last day unless --since says otherwise.

Exit code 1 when it is found nowhere in the pipeline. Needs kafka.brokers; asks
ClickHouse and the object store where they are configured; without any it looks at
the pipeline that 'auditstream up' runs here.

    auditstream trace 9f86d081884c7d659a2feaa0c55ad015-000000000042
    auditstream trace 8a7f1f3e-2f5c-4c26-a0b8-0c6c5a0f9e11 --json
    auditstream trace s3://audit-logs/2026/01/31/audit.log.gz:42`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, arguments []string) error {
			from, err := parseTime(since, time.Now())
			if err != nil {
				return usageProblem("--since", err.Error())
			}
			cfg, err := a.load()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(command.Context(), timeout)
			defer cancel()
			return a.trace(ctx, a.here(cfg), arguments[0], from, asJSON)
		},
	}
	flags := command.Flags()
	flags.StringVar(&since, "since", "", "look no further back: a date, a time, or an age like 36h or 30d")
	flags.BoolVar(&asJSON, "json", false, "print the answer as JSON")
	flags.DurationVar(&timeout, "timeout", 10*time.Minute, "how long to look at most")
	return command
}

func (a *application) trace(ctx context.Context, cfg config.Config, asked string, since time.Time, asJSON bool) (err error) {
	log := telemetry.NewLogger(a.stderr, cfg.Log)
	opts := trace.Options{Kafka: cfg.Kafka, Topics: cfg.Topics, Since: since, Log: log, Progress: a.scanProgress()}
	shards, err := clickhouse.ConnectShards(cfg.ClickHouse, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shards.Close()) }()
	opts.Shards = shards
	database, table := clickhouse.TableName(cfg.ClickHouse)
	opts.Table = clickhouse.Quote(database) + "." + clickhouse.Quote(table)
	database, table = clickhouse.ObjectsName(cfg.ClickHouse)
	opts.Ledger = clickhouse.Quote(database) + "." + clickhouse.Quote(table)
	if opts.Store, err = objectstore.New(ctx, cfg.S3, objectstore.Options{Sources: cfg.Sources, Log: log}); err != nil {
		return err
	}
	tracer, err := trace.New(opts)
	if err != nil {
		return err
	}
	defer tracer.Close()
	report, err := tracer.Trace(ctx, asked)
	switch {
	case errors.Is(err, trace.ErrNoTarget):
		return usageProblem("trace", err.Error())
	case err != nil:
		return err
	}
	err = a.print(report, asJSON)
	if err == nil && !report.Found() {
		return errSilent
	}
	return err
}

// scanProgress tells, every few seconds, how far a long reading has come.
func (a *application) scanProgress() func(topic string, read, of int64) {
	const every = 3 * time.Second
	told := time.Now()
	return func(topic string, read, of int64) {
		if time.Since(told) >= every {
			told = time.Now()
			a.complain("reading topic %s: %s of at most %s\n", topic, digits.Group(read), digits.Of(of, "record"))
		}
	}
}
