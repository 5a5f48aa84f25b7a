package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/services/enricher"
	"github.com/auditstream/auditstream/services/sink"
)

const (
	// mostInserts keeps a replay from taking the server from the pipeline.
	mostInserts      = 2
	progressInterval = 3 * time.Second
	// batchSeconds is how much of a limited rate one batch holds.
	batchSeconds = 5
)

// fill is what the sink of a replay reads with, and what it counted.
type fill struct {
	lines     *enricher.Replay // nil from `normalized`
	limiter   *rate.Limiter    // nil: no limit
	read      atomic.Int64
	unwanted  atomic.Int64
	malformed atomic.Int64
	rows      atomic.Int64
	unlimited context.Context // done when nothing is to wait any more
}

func (r *replay) newFill() (*fill, error) {
	f := &fill{unlimited: context.Background()}
	if r.Rate > 0 {
		f.limiter = rate.NewLimiter(rate.Limit(r.Rate), max(1, int(r.Rate/10)))
	}
	if r.From == FromNormalized {
		return f, nil
	}
	var err error
	f.lines, err = enricher.NewReplay(enricher.ReplayOptions{
		Topics: r.names, LineLimit: int64(r.Config.Topics.LineLimit), GeoIP: r.Config.Enricher.GeoIP, Sources: r.Sources, Log: r.Log,
	})
	return f, err
}

// newExpand makes what turns one partition's records into rows.
func (r *replay) newExpand(f *fill) sink.Expand {
	var row event.Row
	var lines func(*kgo.Record) []*kgo.Record
	if f.lines != nil {
		lines = f.lines.Lines()
	}
	return func(record *kgo.Record) ([]*kgo.Record, error) {
		if f.limiter != nil {
			// When the replay is told to end, what was read is finished at once.
			_ = f.limiter.Wait(f.unlimited)
		}
		f.read.Add(1)
		var rows []*kgo.Record
		switch {
		case lines == nil:
			wanted, err := r.filter.wantsRow(record, &row)
			if err != nil {
				f.rows.Add(1) // leaveOut takes it back
				return nil, err
			}
			if wanted {
				rows = []*kgo.Record{record}
			}
			if !wanted {
				f.unwanted.Add(1)
			}
		case r.filter.wantsLine(record):
			rows = lines(record)
		default:
			f.unwanted.Add(1)
		}
		f.rows.Add(int64(len(rows)))
		return rows, nil
	}
}

// leaveOut is told of a record of `normalized` that is no row. The pipeline's
// sink has set it aside, or will when it comes there; which they are is a matter
// of their bytes alone.
func (r *replay) leaveOut(f *fill) func(*kgo.Record, error) {
	if r.From != FromNormalized {
		return nil // what rows are made of has been found good before
	}
	return func(record *kgo.Record, err error) {
		f.malformed.Add(1)
		f.rows.Add(-1)
		r.Log.Warn("a record is no row and is passed over, as the sink sets it aside",
			"topic", record.Topic, "partition", record.Partition, "offset", record.Offset, "error", err)
	}
}

// target is the table that is filled.
func (r *replay) target() config.ClickHouse {
	cfg := r.Config.ClickHouse
	if r.Into != "" {
		cfg.Table = r.Into
	}
	cfg.CreateTable = false
	return cfg
}

// createTable makes the table beside the live one when it is not there.
func (r *replay) createTable(ctx context.Context) error {
	if r.Into == "" {
		return nil
	}
	cfg := r.target()
	cfg.View = "" // that of the live table
	for _, shard := range cfg.PerShard() {
		connection, err := clickhouse.Connect(shard, r.Log)
		if err != nil {
			return err
		}
		_, err = clickhouse.Apply(ctx, connection, shard)
		if err = errors.Join(err, connection.Close()); err != nil {
			return err
		}
	}
	return nil
}

// holdsRows tells whether the table beside the live one is there and not empty.
func (r *replay) holdsRows(ctx context.Context) (bool, error) {
	for _, shard := range r.target().PerShard() {
		table, err := clickhouse.OpenTable(shard, r.Log)
		if err != nil {
			return false, err
		}
		rows, err := table.HoldsRows(ctx)
		if err = errors.Join(err, table.Close()); err != nil || rows {
			return rows, err
		}
	}
	return false, nil
}

// fill reads the main run, in the topic at which lines or rows are.
func (r *replay) fill(ctx context.Context, f *fill) error {
	if r.plan.run.phase != "" {
		return nil // it is behind us
	}
	group, topic := r.fillGroup(), r.fillTopic()
	if r.From == FromObjects {
		if err := r.planLines(ctx); err != nil {
			return err
		}
	}
	return r.runSink(ctx, f, group, topic)
}

// catchUp reads what came while the main run was under way, so that it has the
// new rules too. It is one more run of the same group.
func (r *replay) catchUp(ctx context.Context, f *fill) error {
	open := r.Until.IsZero() && r.Offsets == nil
	if !r.Swap || r.From == FromObjects || !open {
		return nil
	}
	if r.plan.run.phase == "" {
		bounds, err := kafka.Bounds(ctx, r.admin, r.topic(), zeroTime, zeroTime)
		if err != nil {
			return err
		}
		ranges := make(map[int32]sink.Range)
		for partition, part := range bounds[r.topic()] {
			ranges[partition] = sink.Range{From: max(part.From, r.plan.ranges[partition].Until), Until: part.To}
			if begun, found := r.plan.ranges[partition]; found && begun.Until > part.To {
				return fmt.Errorf("topic %s partition %d ends before what was read of it", r.topic(), partition)
			}
		}
		r.plan.ranges = ranges
		if err := r.enter(ctx, phaseCatchUp, ranges); err != nil {
			return err
		}
		r.say("reading what came meanwhile")
	}
	return r.runSink(ctx, f, r.group(), r.topic())
}

// runSink works off the run that the group has recorded.
func (r *replay) runSink(ctx context.Context, f *fill, group, topic string) error {
	f.unlimited = ctx
	options, err := kafka.Options(r.Config.Kafka, r.Log, nil)
	if err != nil {
		return err
	}
	made, err := sink.New(sink.Options{
		Name: "replay", Config: r.sinkConfig(f), ClickHouse: r.target(), Topic: topic, Rows: sink.Events,
		NewExpand: func() sink.Expand { return r.newExpand(f) }, Bounded: true, Replace: r.plan.run.replaces, LeaveOut: r.leaveOut(f),
		Group: group, Client: options, AcceptGap: r.Config.Kafka.AcceptGap,
		Log: r.Log, Registerer: prometheus.NewRegistry(), Health: telemetry.NewHealth(r.Log), Hook: r.Hook,
	})
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() {
		defer close(told)
		r.watch(watching, f, group, topic)
	}()
	err = made.Run(ctx)
	stop()
	<-told
	if err != nil {
		return r.explain(err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w; run the same again to go on", ctx.Err())
	}
	state, err := sink.ReadRun(ctx, r.client, group, topic)
	if err != nil {
		return err
	}
	if state == nil || !state.Ended() {
		return errors.New("the sink has ended before the run's end")
	}
	return nil
}

// sinkConfig is the live sink's with less of everything. What a line becomes
// is about twice as large as the line, which is what is counted.
func (r *replay) sinkConfig(f *fill) config.Sink {
	cfg := r.Config.Sink
	cfg.Memory = r.Memory
	cfg.Inserts = min(cfg.Inserts, mostInserts)
	if f.lines != nil {
		cfg.Memory = max(cfg.Memory/3, 1)
		cfg.BatchSize = max(cfg.BatchSize/3, 1)
	}
	if r.Rate > 0 {
		cfg.BatchRows = min(cfg.BatchRows, max(100, int(r.Rate*batchSeconds)))
	}
	return cfg
}

// watch says how far it is, every few seconds.
func (r *replay) watch(ctx context.Context, f *fill, group, topic string) {
	begun, first := time.Now(), int64(-1)
	for delay.For(ctx, progressInterval) {
		state, err := sink.ReadRun(ctx, r.client, group, topic)
		if err != nil || state == nil {
			continue // the sink says what is wrong with the brokers
		}
		done, whole := progress(state)
		if first < 0 {
			first = done
		}
		text := fmt.Sprintf("%s of %s, %s", digits.Group(done), digits.Of(whole, "record"), digits.Of(f.rows.Load(), "row"))
		if seconds := time.Since(begun).Seconds(); done > first {
			perSecond := float64(done-first) / seconds
			left := time.Duration(float64(whole-done) / perSecond * float64(time.Second))
			text += fmt.Sprintf(", %s records/s, %s to go", digits.Group(int64(perSecond)), left.Round(time.Second))
		}
		r.say("%s", text)
	}
}

// progress counts offsets, ends of transactions among them.
func progress(state *sink.RunState) (done, whole int64) {
	for partition, all := range state.Whole {
		whole += all.Until - all.From
		done += state.Partitions[partition].From - all.From
	}
	return done, whole
}

// Summary is what a call of Run did. What an earlier process of the same
// replay did is not in it.
type Summary struct {
	Name     string
	Table    string // that was filled
	Live     string
	Records  int64 // read
	Unwanted int64 // passed over by the filter
	// Malformed are records of `normalized` that are no rows, which the sink sets
	// aside.
	Malformed int64
	Rows      int64
	Rejected  map[string]int // lines by reason, which are dead letters already
	Skipped   map[string]int // by reason
	Copied    uint64         // by a swap: rows that the replay has not made
	Swapped   bool
	Over      bool // it had ended before
	DryRun    bool
}

func (r *replay) summary(f *fill, copied uint64) Summary {
	s := Summary{Name: r.Name, Table: r.swap.Live(), Live: r.swap.Live(), Over: r.plan.over, DryRun: r.DryRun, Copied: copied}
	if r.Into != "" {
		s.Table = r.swap.Other()
	}
	if f == nil {
		return s
	}
	s.Records, s.Unwanted, s.Malformed, s.Rows = f.read.Load(), f.unwanted.Load(), f.malformed.Load(), f.rows.Load()
	if f.lines != nil {
		counts := f.lines.Counts()
		s.Rejected, s.Skipped = counts.Rejected, counts.Skipped
	}
	return s
}

// String says it for people.
func (s Summary) String() string {
	text := fmt.Sprintf("replay %s: %s read, %s passed over, %s into %s", s.Name, digits.Of(s.Records, "record"), digits.Group(s.Unwanted), digits.Of(s.Rows, "row"), s.Table)
	if s.Malformed > 0 {
		text += fmt.Sprintf("; %s no rows, passed over as the sink sets them aside (malformed-record)", digits.Of(s.Malformed, "record"))
	}
	for _, part := range []struct {
		what   string
		counts map[string]int
	}{{"rejected", s.Rejected}, {"skipped", s.Skipped}} {
		var reasons []string
		for _, reason := range slices.Sorted(maps.Keys(part.counts)) {
			reasons = append(reasons, digits.Group(part.counts[reason])+" "+reason)
		}
		if reasons != nil {
			text += "; " + part.what + ": " + strings.Join(reasons, ", ")
		}
	}
	if s.Swapped {
		text += fmt.Sprintf("; %s copied as they were. That table is %s now; the old one is %s, to be dropped when it is no longer wanted", digits.Of(s.Copied, "row"), s.Live, s.Table)
	}
	return text
}

// check refuses what would do harm, before anything is done.
func (r *replay) check(ctx context.Context) error {
	var err error
	if r.filter, err = r.newFilter(ctx); err != nil {
		return err
	}
	if r.Swap {
		problem, err := r.swap.Check(ctx)
		if err != nil {
			return err
		}
		if problem != "" {
			return refuse("--swap: %s", problem)
		}
	}
	if r.Into != "" || r.From == FromNormalized {
		return nil
	}
	for id, source := range r.Sources {
		if r.Source != "" && id != r.Source {
			continue
		}
		other, err := clickhouse.OtherWorkspace(ctx, r.table, r.Config.ClickHouse, id, source.WorkspaceID)
		if err != nil {
			return err
		}
		if other != nil {
			return refuse("source %s has rows of workspace %q in the table, and its workspace is %q now: rows made again would stand beside them, not in their place. Replay --into another table, with --swap",
				id, *other, source.WorkspaceID)
		}
	}
	return nil
}

var zeroTime time.Time

// unknownGroup tells whether there is no such group yet.
func unknownGroup(err error) bool { return errors.Is(err, kerr.GroupIDNotFound) }
