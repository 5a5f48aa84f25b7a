package fetcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/services/fetcher/backfill"
	"github.com/auditstream/auditstream/services/fetcher/intake"
	"github.com/auditstream/auditstream/topics"
)

// BackfillOptions of one backfill.
type BackfillOptions struct {
	Config       config.Config
	Source       string // id
	Prefix       string // below the source's own, or empty
	Since, Until time.Time
	Asked        string // how the times were asked for; ages grow from run to run
	DryRun       bool
	Ledger       backfill.Ledger // nil: is not asked
	File         string          // keeps the progress
	OnProgress   func(totals backfill.Totals, ranges, of int)
	Log          *slog.Logger
}

// Backfill announces what is in a source's bucket already.
func Backfill(ctx context.Context, opts BackfillOptions) (backfill.Totals, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	var source *config.Source
	for i := range opts.Config.Sources {
		if opts.Config.Sources[i].ID == opts.Source {
			source = &opts.Config.Sources[i]
		}
	}
	switch {
	case source == nil:
		return backfill.Totals{}, fmt.Errorf("backfill: source %q is not in the configuration", opts.Source)
	case opts.Prefix == "":
		opts.Prefix = source.Prefix
	case !strings.HasPrefix(opts.Prefix, source.Prefix):
		return backfill.Totals{}, fmt.Errorf("backfill: prefix %q is not below that of source %s, %q", opts.Prefix, source.ID, source.Prefix)
	}
	if !opts.Until.IsZero() && !opts.Since.Before(opts.Until) {
		return backfill.Totals{}, errors.New("backfill: since is not before until")
	}
	if opts.Asked == "" {
		opts.Asked = opts.Since.UTC().Format(time.RFC3339Nano) + " " + opts.Until.UTC().Format(time.RFC3339Nano)
	}
	store, err := objectstore.New(ctx, opts.Config.S3, objectstore.Options{
		Sources: opts.Config.Sources, StallTimeout: opts.Config.Fetcher.StallTimeout, Log: opts.Log,
	})
	if err != nil {
		return backfill.Totals{}, fmt.Errorf("backfill: %w", err)
	}
	run := backfill.Options{
		Job: backfill.Job{
			Source: source.ID, Store: store.Alias(), Bucket: source.Bucket, Prefix: opts.Prefix,
			Since: opts.Since.UTC(), Until: opts.Until.UTC(), Asked: opts.Asked,
		},
		Selects: source.Selector(), Lister: store, Ledger: opts.Ledger, File: opts.File, OnProgress: opts.OnProgress,
	}
	if !opts.DryRun {
		client, err := backfillClient(opts)
		if err != nil {
			return backfill.Totals{}, fmt.Errorf("backfill: %w", err)
		}
		// Closing ends the wait for what was sent and not answered.
		defer context.AfterFunc(ctx, client.Close)()
		defer client.Close()
		metrics, err := intake.NewMetrics(nil)
		if err != nil {
			return backfill.Totals{}, fmt.Errorf("backfill: %w", err)
		}
		run.Announcer = intake.NewAnnouncer(client, opts.Config.Topics.Names().Objects, store.Alias(), metrics)
	}
	totals, err := backfill.Run(ctx, run)
	if err != nil {
		return totals, fmt.Errorf("backfill: %w", err)
	}
	return totals, nil
}

func backfillClient(opts BackfillOptions) (*kgo.Client, error) {
	options, err := kafka.Options(opts.Config.Kafka, opts.Log, nil)
	if err != nil {
		return nil, err
	}
	limit := int64(opts.Config.Topics.LineLimit)
	options = append(options, kafka.RecordSizes(opts.Config.Topics.Names(), limit)...)
	client, err := kgo.NewClient(append(options, kgo.MaxBufferedBytes(max(bufferedBytes, 2*int(topics.MaxMessageBytes(limit)))))...)
	if err != nil {
		return nil, fmt.Errorf("Kafka client: %w", err)
	}
	return client, nil
}
