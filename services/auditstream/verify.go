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
	"github.com/auditstream/auditstream/services/auditstream/verify"
)

func (a *application) verifyCommand() *cobra.Command {
	var since, until, source, object string
	var asJSON, bucket bool
	command := &cobra.Command{
		Use:     "verify",
		Short:   "Prove that everything fetched is in the table, once",
		GroupID: groupPrepare,
		Long: `Holds the ledger (clickhouse.objectsTable: how many lines each object has, and what
became of those that are not one row each) against the table. Of each object every
line has to have its rows, or a dead letter, or to be a skip that was counted, and
no row may be there that the ledger does not account for. What is missing or too
much is named by object and line.

Rows past their time to live, rows that a replay made again, and dead letters that
were put back are no mismatch. What is still on its way through the topics is told
apart. Objects that were set aside are listed; the lines before that have to be
there. With --bucket the sources' buckets are listed too, and objects found that
were never announced.

Times are those at which S3 received the objects, like 2026-01-31 or
2026-01-31T12:00:00Z, or ages like 36h or 30d. Objects from before there was a
ledger have no entry: begin after them.

Exit code 0 when everything is there, 1 otherwise. Needs clickhouse.addresses and
kafka.brokers, for --bucket the object store too; without them it looks at the
pipeline that 'auditstream up' runs here.

    auditstream verify
    auditstream verify --since 7d --source production --bucket
    auditstream verify --object s3://audit-logs/production/audit-1.log.gz
    auditstream verify --json | jq '.problems'`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			from, to, err := parseTimes(since, until, time.Now())
			if err != nil {
				return err
			}
			cfg, err := a.load()
			if err != nil {
				return err
			}
			return a.verify(command.Context(), a.here(cfg), verify.Options{
				Since: from, Until: to, Source: source, Object: object,
			}, bucket, asJSON)
		},
	}
	flags := command.Flags()
	flags.StringVar(&since, "since", "", "only objects that S3 received since then")
	flags.StringVar(&until, "until", "", "only objects that S3 received before then")
	flags.StringVar(&source, "source", "", "only objects of the source with this id")
	flags.StringVar(&object, "object", "", "only this object, by its S3 URI or its id")
	flags.BoolVar(&bucket, "bucket", false, "list the sources' buckets too, and find what was never announced")
	flags.BoolVar(&asJSON, "json", false, "print the report as JSON")
	return command
}

func (a *application) verify(ctx context.Context, cfg config.Config, opts verify.Options, bucket, asJSON bool) (err error) {
	log := telemetry.NewLogger(a.stderr, cfg.Log)
	opts.ClickHouse, opts.Log = cfg.ClickHouse, log
	shards, err := clickhouse.ConnectShards(cfg.ClickHouse, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shards.Close()) }()
	opts.Shards = shards
	flight, err := verify.OpenTopics(cfg, log)
	if err != nil {
		return err
	}
	defer flight.Close()
	opts.Flight = flight
	if bucket {
		store, err := objectstore.New(ctx, cfg.S3, objectstore.Options{
			Sources: cfg.Sources, StallTimeout: cfg.Fetcher.StallTimeout, Log: log,
		})
		if err != nil {
			return err
		}
		opts.Bucket = &verify.Bucket{Store: store, Sources: cfg.Sources}
	}
	report, err := verify.Run(ctx, opts)
	if err != nil {
		return err
	}
	err = a.print(report, asJSON)
	if err == nil && !report.Complete() {
		err = errSilent
	}
	return err
}
