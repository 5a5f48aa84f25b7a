package replay_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/services/auditstream/replay"
	"github.com/auditstream/auditstream/services/sink"
)

// pipeline runs the live stages over some lines until all rows are there.
func (w *world) pipeline() {
	w.t.Helper()
	w.lines("one", "a", 1, 700)
	w.lines("one", "b", 1, 50)
	w.lines("two", "c", 1, 300)
	stop := w.start(config.CommandEnricher, config.CommandSink)
	w.settled()
	stop()
	w.wantView()
}

func dies(hook *replay.Options, step sink.Step, nth int32) *atomic.Int32 {
	var seen atomic.Int32
	hook.Hook = func(_ int32, at sink.Step) error {
		if at == step && seen.Add(1) == nth {
			return errors.New("died")
		}
		return nil
	}
	return &seen
}

// With another GeoIP build the same rows get new places, none is there twice
// through the view, and one killed half way goes on.
func TestRawIntoTheSameTable(t *testing.T) {
	w := newWorld(t)
	w.pipeline()
	view := w.cfg.ClickHouse.View
	require.Zero(t, w.count("SELECT count() FROM "+view+" WHERE srcCity != ''"))

	opts := w.options(replay.FromRaw)
	dry := opts
	dry.DryRun = true
	require.True(t, w.replay(dry).DryRun)
	w.wantEach(w.cfg.ClickHouse.Table, 1, w.want)

	for _, step := range []sink.Step{sink.StepIntended, sink.StepInserted, sink.StepReattempt, sink.StepCommitted} {
		killed := opts
		seen := dies(&killed, step, 2)
		if step == sink.StepReattempt {
			seen = dies(&killed, step, 1) // of the intents left open
		}
		require.ErrorContains(t, w.fails(killed), "died", step)
		require.Positive(t, seen.Load())
		w.wantView()
	}
	half := w.count("SELECT count() FROM " + view + " WHERE srcCity = 'Berlin'")
	require.Positive(t, half)
	require.Less(t, half, uint64(len(w.want)))
	require.Greater(t, w.count("SELECT count() FROM "+w.cfg.ClickHouse.Table), uint64(len(w.want)), "half done, rows are there twice")

	summary := w.replay(opts)
	require.NotEmpty(t, summary.Rejected["not-json"])
	w.wantView()
	require.Equal(t, uint64(len(w.want)), w.count("SELECT count() FROM "+view+" WHERE srcCity = 'Berlin'"))

	// It has ended, and other arguments under its name are refused.
	require.True(t, w.replay(opts).Over)
	other := opts
	other.Source = "one"
	var refused *replay.RefusedError
	require.ErrorAs(t, w.fails(other), &refused)
	opts.Again = true
	require.Equal(t, int64(1050), w.replay(opts).Records)
	w.wantView()

	// The pipeline has seen nothing of it.
	w.lines("one", "d", 1, 30)
	w.start(config.CommandEnricher, config.CommandSink)
	w.settled()
	w.wantView()
}

// Into another table each row comes once, wherever the replay dies.
func TestRawIntoAnotherTable(t *testing.T) {
	for _, step := range []sink.Step{sink.StepChosen, sink.StepIntended, sink.StepInserted, sink.StepLookedUp, sink.StepCommitted} {
		t.Run(string(step), func(t *testing.T) {
			w := newWorld(t)
			w.lines("one", "a", 1, 900)
			opts := w.options(replay.FromRaw)
			opts.Into = "filled"
			if step == sink.StepLookedUp {
				killed := opts
				dies(&killed, sink.StepInserted, 1)
				w.fails(killed)
			}
			killed := opts
			seen := dies(&killed, step, 1)
			require.ErrorContains(t, w.fails(killed), "died")
			require.Positive(t, seen.Load())
			w.replay(opts)
			w.wantEach("filled", 1, w.want)
			require.Empty(t, w.ids(w.cfg.ClickHouse.Table))
		})
	}
}

func TestFilters(t *testing.T) {
	w := newWorld(t)
	w.pipeline()
	fill := func(from, into string, adjust func(*replay.Options)) {
		t.Helper()
		opts := w.options(from)
		opts.Name, opts.Into = into, into
		adjust(&opts)
		w.replay(opts)
	}
	a, b, c := w.object("one", "a"), w.object("one", "b"), w.object("two", "c")
	for _, from := range []string{replay.FromRaw, replay.FromNormalized} {
		fill(from, from+"_source", func(o *replay.Options) { o.Source = "one" })
		w.wantEach(from+"_source", 1, w.those(a, b))
		fill(from, from+"_object", func(o *replay.Options) { o.Object = c })
		w.wantEach(from+"_object", 1, w.those(c))
		fill(from, from+"_all", func(o *replay.Options) { o.Rate = 5000 })
		w.wantEach(from+"_all", 1, w.want)
		fill(from, from+"_none", func(o *replay.Options) { o.Until = time.Now().Add(-time.Hour) })
		require.Empty(t, w.ids(from+"_none"))
	}
	fill(replay.FromRaw, "raw_offsets", func(o *replay.Options) { o.Offsets = map[int32]sink.Range{1: {From: 10, Until: 50}} })
	require.Len(t, w.ids("raw_offsets"), int(w.count("SELECT count() FROM raw_offsets")))
	require.LessOrEqual(t, w.count("SELECT count() FROM raw_offsets"), uint64(40))
	require.Positive(t, w.count("SELECT count() FROM raw_offsets"))

	since := time.Now()
	before := len(w.want)
	w.lines("two", "e", 1, 40)
	fill(replay.FromRaw, "raw_since", func(o *replay.Options) { o.Since = since })
	w.wantEach("raw_since", 1, w.those(w.object("two", "e")))
	fill(replay.FromRaw, "raw_until", func(o *replay.Options) { o.Until = since })
	require.Len(t, w.ids("raw_until"), before)
}

func TestRefused(t *testing.T) {
	w := newWorld(t)
	w.pipeline()
	for want, adjust := range map[string]func(*replay.Options){
		"none of raw":                func(o *replay.Options) { o.From = "elsewhere" },
		"--swap needs --into":        func(o *replay.Options) { o.Swap = true },
		"is the live table":          func(o *replay.Options) { o.Into = w.cfg.ClickHouse.Table },
		"not in the configuration":   func(o *replay.Options) { o.Source = "three" },
		"neither an S3 address":      func(o *replay.Options) { o.Object = "abc" },
		"only `--from normalized`":   func(o *replay.Options) { o.Config.ClickHouse.Shards = []config.Shard{{}, {}} },
		"has no partition 9":         func(o *replay.Options) { o.Offsets = map[int32]sink.Range{9: {}} },
		"asked for were 0 to 999999": func(o *replay.Options) { o.Offsets = map[int32]sink.Range{0: {Until: 999999}} },
		"its workspace is \"other\" now": func(o *replay.Options) {
			o.Sources["two"].WorkspaceID = "other"
		},
	} {
		opts := w.options(replay.FromRaw)
		adjust(&opts)
		var refused *replay.RefusedError
		err := w.fails(opts)
		require.ErrorAs(t, err, &refused, want)
		require.ErrorContains(t, err, want)
	}
	w.wantEach(w.cfg.ClickHouse.Table, 1, w.want)
	groups, err := w.admin.ListGroups(t.Context())
	require.NoError(t, err)
	require.NotContains(t, groups.Groups(), w.cfg.Kafka.Group+"-replay-test")

	// Databases that are named and can't be used would take the places from rows.
	none := w.options(replay.FromRaw)
	none.Config.Enricher.GeoIP.Directory = t.TempDir()
	require.ErrorContains(t, w.fails(none), "none of them can be used")

	// A view that is fed by inserts would see copied rows again.
	w.exec("CREATE TABLE counted (n UInt64) ENGINE = SummingMergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 1000")
	w.exec("CREATE MATERIALIZED VIEW counting TO counted AS SELECT count() AS n FROM " + w.cfg.ClickHouse.Table)
	opts := w.options(replay.FromRaw)
	opts.Into, opts.Swap = "filled", true
	require.ErrorContains(t, w.fails(opts), "materialized view")
}
