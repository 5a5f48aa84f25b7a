// Command bench measures the stages between the topics and, in the same run on
// the same machine, what each is up against: a bare pass over the same JSON's
// tokens, a bare GET and gunzip of the same objects, a bare transactional copy of the same records, an insert of the same
// columns built beforehand. Ratios say more than figures: they hold on slow
// machines, too. It never fails because a machine is slow.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/auditstream/auditstream/pkg/embedded"
)

// figure is a line of the table: what was measured, its ceiling, and the target
// for their ratio.
type figure struct {
	name           string
	value, ceiling float64
	unit           string
	against        string // what the ceiling is
	ratio          float64
	target         float64
	atMost         bool // the ratio is to be at most target, else at least
}

func (f figure) met() bool {
	if f.atMost {
		return f.ratio <= f.target
	}
	return f.ratio >= f.target
}

// options of a run.
type options struct {
	events  int
	only    string
	rounds  int
	seed    uint64
	log     *slog.Logger
	scratch string
	profile string
	limit   time.Duration
}

func main() {
	embedded.RunChildIfAsked()
	serveBrokerIfAsked()
	os.Exit(run())
}

func run() int {
	var o options
	var verbose bool
	flag.IntVar(&o.events, "events", 100_000, "events through the enricher and the sink")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each is measured, in turns with its ceiling; the best counts")
	flag.Uint64Var(&o.seed, "seed", 1, "of the generated events")
	flag.StringVar(&o.only, "only", "", "measure this part alone: fetcher, normalizer, enricher, sink")
	flag.StringVar(&o.profile, "profile", "", "folder to write CPU profiles of the fetcher to")
	flag.DurationVar(&o.limit, "limit", 20*time.Minute, "a part that takes longer ends the run, and tells where it stands")
	flag.BoolVar(&verbose, "v", false, "show the servers' and the stages' logs")
	flag.Parse()
	if o.events < 10*sinkBatch || o.rounds < 1 {
		fmt.Fprintf(os.Stderr, "bench: want at least %d events and one round\n", 10*sinkBatch)
		return 2
	}
	level := slog.LevelError
	if verbose {
		level = slog.LevelInfo
	}
	o.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := measure(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func measure(ctx context.Context, o options, out io.Writer) (err error) {
	if o.scratch, err = os.MkdirTemp("", "auditstream-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.scratch)
	fmt.Fprintf(out, "%s %s/%s, %d processors, %d events\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), o.events)
	var figures []figure
	for _, part := range []struct {
		name string
		run  func(context.Context, options) ([]figure, error)
	}{
		{"fetcher", benchFetcher},
		{"normalizer", benchNormalizer},
		{"enricher", benchEnricher},
		{"sink", benchSink},
	} {
		if o.only != "" && o.only != part.name {
			continue
		}
		fmt.Fprintf(out, "measuring the %s …\n", part.name)
		stop := watch(part.name, o.limit, o.scratch)
		measured, err := part.run(ctx, o)
		stop()
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		figures = append(figures, measured...)
	}
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "figure\tvalue\tceiling\tratio\ttarget\t\tceiling is")
	for _, f := range figures {
		if f.target == 0 && !f.atMost {
			fmt.Fprintf(table, "%s\t%s\t\t\t\t\t%s\n", f.name, amount(f.value, f.unit), f.against)
			continue
		}
		verdict, bound := "not met", "≥"
		if f.met() {
			verdict = "met"
		}
		if f.atMost {
			bound = "≤"
		}
		ceiling, ratio := amount(f.ceiling, f.unit), fmt.Sprintf("%.2f", f.ratio)
		if f.ceiling == 0 {
			ceiling, ratio = "", amount(f.value, "")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s %g\t%s\t%s\n", f.name, amount(f.value, f.unit), ceiling, ratio, bound, f.target, verdict, f.against)
	}
	return table.Flush()
}

// inTurns measures the ceiling and the figure one after the other, round after
// round, and returns the best of each: what else the machine does at times then
// falls on both, and mostly on neither.
func inTurns(rounds int, ceiling, value func(round int) (float64, error)) (bestCeiling, bestValue float64, err error) {
	for round := range rounds {
		perSecond, err := ceiling(round)
		if err != nil {
			return 0, 0, fmt.Errorf("ceiling: %w", err)
		}
		bestCeiling = max(bestCeiling, perSecond)
		if perSecond, err = value(round); err != nil {
			return 0, 0, err
		}
		bestValue = max(bestValue, perSecond)
	}
	return bestCeiling, bestValue, nil
}

func amount(value float64, unit string) string {
	text := fmt.Sprintf("%.0f", value)
	switch {
	case value < 10 && value != float64(int64(value)):
		text = fmt.Sprintf("%.2f", value)
	case unit == "MB/s":
		text = fmt.Sprintf("%.0f", value)
	}
	for at := len(text) - 3; at > 0 && len(text) > 4; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	if unit == "" {
		return text
	}
	return text + " " + unit
}
