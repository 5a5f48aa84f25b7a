package fetcher_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/services/fetcher/backfill"
	"github.com/auditstream/auditstream/topics"
)

func (w *world) backfillOptions() fetcher.BackfillOptions {
	cfg := config.Default()
	opts := w.options()
	cfg.Kafka, cfg.Topics, cfg.S3, cfg.Sources = opts.Kafka, opts.Topics, opts.S3, opts.Sources
	return fetcher.BackfillOptions{Config: cfg, Source: sourceID, File: filepath.Join(w.t.TempDir(), "progress.json")}
}

// fill stores n small objects, over folders that no order of names but that of
// the bytes has, and gives the rows of them.
func (w *world) fill(n int) expected {
	w.t.Helper()
	want := make(expected)
	var mu sync.Mutex
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				folder := []string{"a", "a-b", "a.b", "a/b", "b b", "c%2F", "ü"}[i%7]
				key := fmt.Sprintf("logs/%s/%02d/%05d +x.json", folder, i%11, i)
				text := fmt.Sprintf("line of %s\n", key)
				id := w.put(key, []byte(text))
				mu.Lock()
				want.lines(id, text)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return want
}

func (w *world) announcements(atLeast int) int {
	n := 0
	for _, record := range w.committed(w.names.Objects, func(records []*kgo.Record) bool { return len(records) >= atLeast }) {
		if object, err := topics.DecodeObject(record.Value); err == nil && object.Cause == topics.CauseBackfill {
			n++
		}
	}
	return n
}

func TestBackfillInterruptedTwice(t *testing.T) {
	const objects = 6000
	w := newWorld(t)
	want := w.fill(objects)
	w.put("elsewhere/x", []byte("not of the source\n"))
	w.put("logs/empty", nil)

	var pages atomic.Int64
	var stopAfter atomic.Int64
	var stop atomic.Pointer[context.CancelFunc]
	w.faults.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "2" && r.URL.Query().Get("delimiter") == "" {
			if pages.Add(1) == stopAfter.Load() {
				(*stop.Load())()
			}
		}
		return false
	})
	opts := w.backfillOptions()
	dry := opts
	dry.DryRun = true
	totals, err := fetcher.Backfill(t.Context(), dry)
	require.NoError(t, err)
	require.Equal(t, backfill.Totals{Listed: objects + 1, Announced: objects, Bytes: totals.Bytes, Skipped: 1}, totals)
	require.NoFileExists(t, opts.File)
	whole := pages.Load()

	pages.Store(0)
	for _, after := range []int64{20, 45} {
		ctx, cancel := context.WithCancel(t.Context())
		stop.Store(&cancel)
		stopAfter.Store(after)
		_, err := fetcher.Backfill(ctx, opts)
		require.ErrorIs(t, err, context.Canceled)
		require.FileExists(t, opts.File)
	}
	other := opts
	other.Prefix = "logs/a"
	_, err = fetcher.Backfill(t.Context(), other)
	require.ErrorIs(t, err, backfill.ErrOtherJob)

	totals, err = fetcher.Backfill(t.Context(), opts)
	require.NoError(t, err)
	require.EqualValues(t, objects, totals.Announced)
	require.EqualValues(t, objects+1, totals.Listed, "a key that was passed is not listed again")
	require.NoFileExists(t, opts.File)
	require.Less(t, pages.Load(), 2*whole, "what was passed is not listed again")

	// The listing finds the same objects, and a second backfill announces them all
	// again: none is fetched twice.
	w.start(nil)
	_, err = fetcher.Backfill(t.Context(), opts)
	require.NoError(t, err)
	w.requireRaw(want)
	w.deadLetters(0)
	require.GreaterOrEqual(t, w.announcements(2*objects), 2*objects)
}

func TestBackfillOfATime(t *testing.T) {
	w := newWorld(t)
	w.put("logs/early", []byte("x\n"))
	time.Sleep(1100 * time.Millisecond) // the store's clock ticks in seconds
	middle := time.Now().Truncate(time.Second)
	w.put("logs/late", []byte("y\n"))
	opts := w.backfillOptions()
	opts.DryRun = true
	for _, test := range []struct {
		since, until time.Time
		want         int64
	}{
		{time.Time{}, time.Now().Add(time.Hour), 2},
		{middle, time.Now().Add(time.Hour), 1},
		{time.Time{}, middle, 1},
		{middle.Add(-time.Hour), middle.Add(-time.Minute), 0},
	} {
		opts.Since, opts.Until = test.since, test.until
		totals, err := fetcher.Backfill(t.Context(), opts)
		require.NoError(t, err)
		require.Equal(t, test.want, totals.Announced)
		require.Equal(t, 2-test.want, totals.Outside)
	}
	opts.Since, opts.Until = middle, middle.Add(-time.Second)
	_, err := fetcher.Backfill(t.Context(), opts)
	require.ErrorContains(t, err, "since is not before until")
	opts.Since, opts.Prefix = time.Time{}, "other/"
	_, err = fetcher.Backfill(t.Context(), opts)
	require.ErrorContains(t, err, "not below")
	opts.Source = "nobody"
	_, err = fetcher.Backfill(t.Context(), opts)
	require.ErrorContains(t, err, "not in the configuration")
}

// A file that can't be written is known before anything is announced.
func TestBackfillKeepsNoProgress(t *testing.T) {
	w := newWorld(t)
	w.put("logs/x", []byte("x\n"))
	opts := w.backfillOptions()
	opts.File = filepath.Join(t.TempDir(), "none", "progress.json")
	_, err := fetcher.Backfill(t.Context(), opts)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Zero(t, w.announcements(0))
	opts.File = filepath.Join(t.TempDir(), "progress.json")
	require.NoError(t, os.WriteFile(opts.File, []byte("{"), 0o600))
	_, err = fetcher.Backfill(t.Context(), opts)
	require.ErrorContains(t, err, "read the progress")
	require.True(t, strings.HasPrefix(err.Error(), "backfill: "))
}
