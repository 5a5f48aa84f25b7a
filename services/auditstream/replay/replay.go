package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/services/fetcher/split"
	"github.com/auditstream/auditstream/services/sink"
	"github.com/auditstream/auditstream/topics"
)

// Where a replay begins.
const (
	FromRaw        = topics.Raw
	FromNormalized = topics.Normalized
	FromObjects    = topics.Objects
)

// Options of a replay. Config, Sources, From, Log and Out are required.
type Options struct {
	Config  config.Config
	Sources map[string]*audit.Source // of the configuration, as the enricher takes them

	From         string
	Since, Until time.Time            // by the records' timestamps; zero: not bounded
	Asked        string               // how they were typed; ages grow from run to run
	Offsets      map[int32]sink.Range // in place of times; Until 0 is the end
	Source       string               // only of this source
	Object       string               // only of this object: its id, or its S3 address

	Into  string // a table beside the live one; "": the live one
	Swap  bool   // put it in the live one's place
	Again bool   // a run that has ended is begun anew

	Rate       float64     // records a second; 0: as fast as it goes
	Memory     config.Size // 0: sink.memory
	Name       string      // tells this replay from others; "": made of the rest
	DryRun     bool
	KeepTopics bool

	Log *slog.Logger
	Out io.Writer // progress, for people

	// Hooks for tests: each runs between durable steps, and its error ends the
	// replay there as if it had died.
	Hook      func(partition int32, step sink.Step) error
	SplitHook func(step split.Step) error
	SwapHook  func(step SwapStep) error
}

// RefusedError is a replay that can't be meant, or would do harm. Nothing was
// changed.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "refused: " + e.Reason }

func refuse(format string, arguments ...any) error {
	return &RefusedError{Reason: fmt.Sprintf(format, arguments...)}
}

// replay is one call of Run.
type replay struct {
	Options
	names  topics.Names
	client *kgo.Client
	admin  *kadm.Client
	table  driver.Conn // of the first shard
	swap   *clickhouse.Swap
	plan   plan
	filter filter
	begun  time.Time
}

// Run replays, or goes on with what was begun under the same name, until it has
// passed its end.
func Run(ctx context.Context, opts Options) (Summary, error) {
	r, err := open(opts)
	if err != nil {
		return Summary{}, fmt.Errorf("replay: %w", err)
	}
	defer r.client.Close()
	summary, err := r.run(ctx)
	if closed := r.table.Close(); err == nil && closed != nil {
		err = fmt.Errorf("close the connection to ClickHouse: %w", closed)
	}
	if err != nil {
		return summary, fmt.Errorf("replay %s: %w", r.Name, err)
	}
	return summary, nil
}

func open(opts Options) (*replay, error) {
	r := &replay{Options: opts, names: opts.Config.Topics.Names(), begun: time.Now()}
	if err := r.validate(); err != nil {
		return nil, err
	}
	if r.Memory == 0 {
		r.Memory = r.Config.Sink.Memory
	}
	r.Config.Kafka.ClientID += "-replay"
	r.plan.arguments = r.digest()
	if r.Name == "" {
		r.Name = r.plan.arguments[:8]
	}
	options, err := kafka.Options(r.Config.Kafka, r.Log, nil)
	if err != nil {
		return nil, err
	}
	if r.client, err = kgo.NewClient(options...); err != nil {
		return nil, fmt.Errorf("make the Kafka client: %w", err)
	}
	r.admin = kadm.NewClient(r.client)
	if r.table, err = clickhouse.Connect(r.Config.ClickHouse.PerShard()[0], r.Log); err != nil {
		r.client.Close()
		return nil, err
	}
	r.swap = clickhouse.NewSwap(r.table, r.Config.ClickHouse, r.Into)
	return r, nil
}

func (r *replay) validate() error {
	shards := len(r.Config.ClickHouse.PerShard())
	_, live := clickhouse.TableName(r.Config.ClickHouse)
	switch {
	case r.Log == nil || r.Out == nil:
		return errors.New("log and out are required")
	case r.From != FromRaw && r.From != FromNormalized && r.From != FromObjects:
		return refuse("%q is none of raw, normalized, objects", r.From)
	case shards == 0:
		return refuse("no ClickHouse server is named")
	case shards > 1 && r.From != FromNormalized:
		return refuse("with %d shards only `--from normalized` puts each row where its twin is: which shard a row is on follows from its partition there", shards)
	case shards > 1 && r.Swap:
		return refuse("%d shards can't exchange their tables at one moment", shards)
	case r.Swap && r.Into == "":
		return refuse("--swap needs --into, the table that takes the live one's place")
	case r.Into == live:
		return refuse("--into %s is the live table; leave it out to replace rows there", r.Into)
	case r.Offsets != nil && (!r.Since.IsZero() || !r.Until.IsZero()):
		return refuse("--offsets and --since or --until say the same; give one")
	case !r.Until.IsZero() && !r.Since.Before(r.Until):
		return refuse("since is not before until")
	case r.Source != "" && r.From != FromNormalized && r.Sources[r.Source] == nil:
		return refuse("source %q is not in the configuration", r.Source)
	case r.Rate < 0:
		return refuse("a rate below zero is none")
	}
	return nil
}

// run is the order of the durable steps. Whoever runs the same replay again
// goes on after the last one that was made:
//
//	died before the plan is recorded: nothing was done, and it is made anew;
//	died in the middle of announcing or splitting: both leave nothing half done in
//	the log, and go on from there;
//	died while filling: an open intent at most, which is settled first;
//	died in the swap: see swap.go.
func (r *replay) run(ctx context.Context) (Summary, error) {
	if err := r.awaitTable(ctx); err != nil {
		return Summary{}, err
	}
	if err := r.check(ctx); err != nil {
		return Summary{}, err
	}
	if err := r.resume(ctx); err != nil {
		return Summary{}, err
	}
	if r.DryRun {
		return r.summary(nil, 0), r.describe(ctx)
	}
	if r.plan.over {
		r.say("this replay has ended; --again begins it anew")
		return r.summary(nil, 0), r.deleteTopics(ctx)
	}
	fill, err := r.newFill()
	if err != nil {
		return Summary{}, err
	}
	if over, err := r.swappedBefore(ctx); err != nil {
		return Summary{}, err
	} else if over {
		summary := r.summary(nil, 0)
		summary.Swapped = true
		return summary, r.finish(ctx)
	}
	if err := r.createTable(ctx); err != nil {
		return Summary{}, err
	}
	if err := r.record(ctx); err != nil {
		return Summary{}, err
	}
	if err := r.tellLedger(ctx); err != nil {
		return Summary{}, err
	}
	if err := r.fetchObjects(ctx); err != nil {
		return r.summary(fill, 0), err
	}
	if err := r.fill(ctx, fill); err != nil {
		return r.summary(fill, 0), err
	}
	if err := r.catchUp(ctx, fill); err != nil {
		return r.summary(fill, 0), err
	}
	copied, err := r.takePlace(ctx)
	if err != nil {
		return r.summary(fill, copied), err
	}
	summary := r.summary(fill, copied)
	summary.Swapped = r.Swap
	return summary, r.finish(ctx)
}

// tableTimeout is how long a server is waited for that is away at the beginning.
const tableTimeout = time.Minute

// awaitTable waits until ClickHouse answers: a replay that is run again after a
// crash may find the server on its way back. Later the sink waits, as ever.
func (r *replay) awaitTable(ctx context.Context) error {
	deadline := time.Now().Add(tableTimeout)
	for told := false; ; told = true {
		err := r.table.Ping(ctx)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("ask ClickHouse: %w", err)
		}
		if !told {
			r.say("waiting for ClickHouse: %v", err)
		}
		if !delay.For(ctx, time.Second) {
			return ctx.Err()
		}
	}
}

// say tells people how it goes.
func (r *replay) say(format string, arguments ...any) {
	// Who no longer listens is no reason to stop.
	_, _ = fmt.Fprintf(r.Out, "%6s  %s\n", time.Since(r.begun).Round(time.Second), fmt.Sprintf(format, arguments...))
}
