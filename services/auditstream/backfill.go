package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/services/fetcher/backfill"
)

func (a *application) backfillCommand() *cobra.Command {
	var source, prefix, since, until, file string
	var dryRun, again bool
	command := &cobra.Command{
		Use:     "backfill",
		Short:   "Announce the objects that a bucket holds already",
		GroupID: groupPrepare,
		Long: `Lists a source's bucket, many parts of it at once, and announces in the topic
objects what S3 received within a time, for the fetcher to fetch. An object that
a notification or listing announces too is fetched once, whichever came first.
What the ledger in ClickHouse, if one is configured, knows to be fetched as a
whole is left out; --again announces it all the same.

Interrupted and run again with the same flags, it goes on where it was: how far
it has come is kept in a file, which is removed in the end.

Times are like 2026-01-31 or 2026-01-31T12:00:00Z, or ages like 36h or 30d. Needs
kafka.brokers, and the object store; without brokers it announces to the pipeline
that 'auditstream up' runs here.

    auditstream backfill --source production --since 90d --dry-run
    auditstream backfill --source production --since 90d
    auditstream backfill --source production --prefix production/2026/01/`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if source == "" {
				return usageProblem("--source", "missing; the id of one of the configured sources")
			}
			from, to, err := parseTimes(since, until, time.Now())
			if err != nil {
				return err
			}
			cfg, err := a.loadHere(config.CommandFetcher)
			if err != nil {
				return err
			}
			if file == "" {
				file = "backfill-" + source + ".json"
			}
			return a.backfill(command.Context(), fetcher.BackfillOptions{
				Config: cfg, Source: source, Prefix: prefix, Since: from, Until: to, Asked: since + " " + until,
				DryRun: dryRun, File: file,
			}, again)
		},
	}
	flags := command.Flags()
	flags.StringVar(&source, "source", "", "id of the source (required)")
	flags.StringVar(&prefix, "prefix", "", "only keys that begin so (default: the source's prefix)")
	flags.StringVar(&since, "since", "", "only objects that S3 received since then")
	flags.StringVar(&until, "until", "", "only objects that S3 received before then")
	flags.StringVar(&file, "progress", "", "file that keeps the progress (default: ./backfill-<source>.json)")
	flags.BoolVar(&again, "again", false, "announce also what the ledger knows to be fetched as a whole")
	flags.BoolVar(&dryRun, "dry-run", false, "count what would be announced, and announce nothing")
	return command
}

func (a *application) backfill(ctx context.Context, opts fetcher.BackfillOptions, again bool) (err error) {
	opts.Log = telemetry.NewLogger(a.stderr, opts.Config.Log)
	if opts.Config.ClickHouse.Named() && !again {
		ledger, openErr := openLedger(opts.Config.ClickHouse, opts.Source, opts.Log)
		if openErr != nil {
			return openErr
		}
		defer func() { err = errors.Join(err, ledger.close()) }()
		opts.Ledger = ledger
	}
	begun := time.Now()
	opts.OnProgress = func(totals backfill.Totals, done, of int) {
		a.complain("%s  %d of %d parts, %s\n", time.Since(begun).Round(time.Second), done, of, inWords(totals, opts.DryRun))
	}
	totals, err := fetcher.Backfill(ctx, opts)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			path, _ := filepath.Abs(opts.File)
			if _, statErr := os.Stat(path); statErr == nil {
				a.complain("%s so far; run the same again to go on (%s)\n", inWords(totals, opts.DryRun), path)
			}
		}
		return err
	}
	would := ""
	if opts.DryRun {
		would = " (dry run: nothing was announced)"
	}
	_, err = fmt.Fprintf(a.stdout, "%s%s\n", inWords(totals, opts.DryRun), would)
	return err
}

func inWords(t backfill.Totals, dryRun bool) string {
	announced := "announced"
	if dryRun {
		announced = "to announce"
	}
	return fmt.Sprintf("listed %s, "+announced+" %s (%.1f MB), complete already %s, outside the time %s, skipped %s",
		digits.Group(t.Listed), digits.Group(t.Announced), float64(t.Bytes)/1e6, digits.Group(t.Complete), digits.Group(t.Outside), digits.Group(t.Skipped))
}
