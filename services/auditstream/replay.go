package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/replay"
	"github.com/auditstream/auditstream/services/auditstream/stack"
	"github.com/auditstream/auditstream/services/sink"
)

// replayFlags are the command line as typed.
type replayFlags struct {
	since, until, offsets, rate, memory string
	abort                               bool
	options                             replay.Options
}

func (a *application) replayCommand() *cobra.Command {
	var f replayFlags
	command := &cobra.Command{
		Use:     "replay",
		Short:   "Make rows again from a topic or the buckets, next to the running pipeline",
		GroupID: groupPrepare,
		Long: `Reads a part of a topic once more and brings its rows into ClickHouse: after a
new GeoIP database, a correction, or a lost table. The running pipeline goes on
undisturbed, in groups and topics of its own.

  --from raw         lines are normalized again, with today's sources and databases
  --from normalized  rows go in again as they were
  --from objects     objects are fetched from their buckets again

Rows keep their ids, so in the same table they take the place of the old ones;
the view shows each once meanwhile. --into fills another table, and with --swap
that one takes the live table's place: the sinks finish what they have begun and
hold on, rows that the replay did not make are copied, the tables are exchanged
at one moment, and the sinks go on with the new one. Nothing is lost on the way.

It ends when it has passed its end: --until, or where the topic ends now. Killed,
or ended by a signal, and run again with the same flags it goes on; --again
begins one anew that has ended. --abort lifts the hold of a swap that is not to
go on.

Times are like 2026-01-31 or 2026-01-31T12:00:00Z, or ages like 36h or 30d, and
are those at which records came into the topic. Needs kafka.brokers,
clickhouse.addresses and the sources; without brokers it works on the pipeline
that 'auditstream up' runs here.

    auditstream replay --from raw --since 30d --dry-run
    auditstream replay --from raw --since 30d --rate 5000
    auditstream replay --from normalized --into kubernetes_audit_logs_new --swap
    auditstream replay --from objects --source production --since 90d`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return a.replay(command.Context(), &f) },
	}
	flags := command.Flags()
	flags.StringVar(&f.options.From, "from", "", "raw, normalized or objects (required)")
	flags.StringVar(&f.since, "since", "", "records from then on (default: from the topic's beginning)")
	flags.StringVar(&f.until, "until", "", "records before then (default: up to the topic's end now)")
	flags.StringVar(&f.offsets, "offsets", "", "in place of times: partition:from-to, with commas between; without to: up to the end")
	flags.StringVar(&f.options.Source, "source", "", "only lines of this source")
	flags.StringVar(&f.options.Object, "object", "", "only lines of this object: s3://bucket/key, or its id")
	flags.StringVar(&f.options.Into, "into", "", "a table to fill beside the live one; made when it isn't there")
	flags.BoolVar(&f.options.Swap, "swap", false, "put the table of --into in the live one's place")
	flags.StringVar(&f.rate, "rate", "", "at most so many records a second, like 5000 or 5000/s (default: no limit)")
	flags.StringVar(&f.memory, "memory", "", "for records under way (default: sink.memory)")
	flags.StringVar(&f.options.Name, "name", "", "tells replays apart (default: made of the other flags)")
	flags.BoolVar(&f.options.Again, "again", false, "begin a replay anew that has ended")
	flags.BoolVar(&f.options.DryRun, "dry-run", false, "say what would be read, and do nothing")
	flags.BoolVar(&f.options.KeepTopics, "keep-topics", false, "of --from objects: leave the replay's own topics there")
	flags.BoolVar(&f.abort, "abort", false, "lift the hold of a swap, and do nothing else")
	return command
}

func (a *application) replay(ctx context.Context, f *replayFlags) error {
	opts := f.options
	if err := f.parse(&opts, time.Now()); err != nil {
		return err
	}
	commands := []config.Command{config.CommandSink}
	if !f.abort && opts.From != replay.FromNormalized {
		commands = append(commands, config.CommandEnricher)
	}
	cfg, err := a.loadHere(commands...)
	if err != nil {
		return err
	}
	opts.Config, opts.Out = cfg, a.stderr
	opts.Log = telemetry.NewLogger(a.stderr, cfg.Log)
	if f.abort {
		return a.abortSwap(ctx, opts)
	}
	if opts.Sources, err = stack.AuditSources(cfg.Sources); err != nil {
		return err
	}
	summary, err := replay.Run(ctx, opts)
	if err != nil {
		if summary.Records > 0 {
			a.complain("%s so far\n", summary)
		}
		return err
	}
	if summary.Over || summary.DryRun {
		return nil
	}
	_, err = fmt.Fprintln(a.stdout, summary)
	return err
}

func (a *application) abortSwap(ctx context.Context, opts replay.Options) error {
	hold, err := replay.Abort(ctx, opts)
	if err != nil {
		return err
	}
	text := "nothing was held"
	if hold != "" {
		text = "lifted the hold of swap " + hold
	}
	_, err = fmt.Fprintln(a.stdout, text)
	return err
}

// parse reads what is no plain text.
func (f *replayFlags) parse(opts *replay.Options, now time.Time) (err error) {
	if f.abort {
		return nil
	}
	switch opts.From {
	case replay.FromRaw, replay.FromNormalized, replay.FromObjects:
	default:
		return usageProblem("--from", fmt.Sprintf("%q is none of raw, normalized, objects", opts.From))
	}
	if opts.Since, opts.Until, err = parseTimes(f.since, f.until, now); err != nil {
		return err
	}
	opts.Asked = f.since + " " + f.until
	if f.offsets != "" {
		if opts.Offsets, err = parseOffsets(f.offsets); err != nil {
			return usageProblem("--offsets", err.Error())
		}
	}
	if f.rate != "" {
		if opts.Rate, err = strconv.ParseFloat(strings.TrimSuffix(f.rate, "/s"), 64); err != nil || opts.Rate <= 0 {
			return usageProblem("--rate", fmt.Sprintf("%q is no rate; write it like 5000 or 5000/s", f.rate))
		}
	}
	if f.memory != "" {
		if opts.Memory, err = config.ParseSize(f.memory); err != nil {
			return usageProblem("--memory", err.Error())
		}
	}
	if !goodName(opts.Name) {
		return usageProblem("--name", "letters, digits, '-' and '_' only, at most 40")
	}
	if opts.Into != "" && !goodTable(opts.Into) {
		return usageProblem("--into", fmt.Sprintf("%q may hold letters, digits and '_' only, and doesn't begin with a digit", opts.Into))
	}
	return nil
}

var errOffsets = errors.New("write them like 0:1000-2000,1:500-")

func parseOffsets(text string) (map[int32]sink.Range, error) {
	offsets := make(map[int32]sink.Range)
	for part := range strings.SplitSeq(text, ",") {
		number, bounds, _ := strings.Cut(strings.TrimSpace(part), ":")
		first, last, ranged := strings.Cut(bounds, "-")
		partition, err := strconv.ParseInt(number, 10, 32)
		if err != nil || !ranged || partition < 0 {
			return nil, errOffsets
		}
		var r sink.Range
		if r.From, err = strconv.ParseInt(first, 10, 64); err != nil || r.From < 0 {
			return nil, errOffsets
		}
		if last != "" {
			if r.Until, err = strconv.ParseInt(last, 10, 64); err != nil || r.Until <= r.From {
				return nil, errOffsets
			}
		}
		offsets[int32(partition)] = r
	}
	return offsets, nil
}

func goodName(name string) bool {
	return len(name) <= 40 && strings.Trim(name, nameCharacters+"-") == ""
}

func goodTable(name string) bool {
	return strings.Trim(name, nameCharacters) == "" && (name[0] < '0' || name[0] > '9')
}

const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
