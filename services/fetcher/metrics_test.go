package fetcher_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/topics"
)

// gathered are the fetcher's own metrics: name and label values to value, of a
// histogram the count.
func gathered(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	values := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := []string{strings.TrimPrefix(family.GetName(), "auditstream_fetcher_")}
			for _, label := range metric.GetLabel() {
				name = append(name, label.GetValue())
			}
			values[strings.Join(name, " ")] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return values
}

// What an operator watches of the intake is there from the start, at zero, and
// counts what became of objects and their bytes.
func TestMetricsOfObjects(t *testing.T) {
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	opts := w.options()
	opts.Registerer = registry
	opts.Sources[0].Queue.URL = "http://127.0.0.1:1/111122223333/q"
	opts.Sources[0].Queue.Concurrency = 1
	_, err := fetcher.New(t.Context(), opts)
	require.NoError(t, err)
	var want []string
	for name, labels := range map[string][]string{
		"announced_total":            {"listed", "notified", "backfill"},
		"intake_skipped_total":       {"empty", "directory", "filtered", "event", "bucket"},
		"objects_total":              {"done", "continued", "postponed", "retried", "duplicate", "deadletter", "note"},
		"object_bytes_total":         {"done", "duplicate", "deadletter"},
		"notified_bytes_total":       {"announced", "skipped"},
		"bytes_total":                {"stored", "decompressed"},
		"listings_total":             {"complete", "failed"},
		"object_to_raw_seconds":      {""},
		"event_to_announced_seconds": {""},
		"retries_total": {
			"object-missing", "object-forbidden", "object-changed", "object-corrupt", "object-archived", "object-too-large", "object-unavailable",
			"unknown-source",
		},
		"dead_letters_total": {"object-missing", "line-too-long", "malformed-record", "unknown-source", "object-without-etag"},
	} {
		for _, label := range labels {
			want = append(want, strings.TrimSpace(name+" "+label))
		}
	}
	slices.Sort(want)
	have := gathered(t, registry)
	for _, name := range want {
		value, there := have[name]
		require.True(t, there, "%s is not there before anything happens", name)
		require.Zero(t, value, name)
	}

	rows := make(expected)
	var size int
	for i := range 5 {
		key := fmt.Sprintf("logs/%d", i)
		text := numbered(key, 20+i, 100)
		rows.lines(w.put(key, []byte(text)), text)
		w.announce(w.stored(key))
		size += len(text)
	}
	again := w.stored("logs/0")
	missing := w.object("logs/missing", "0123456789abcdef0123456789abcdef")
	missing.Size = 7
	w.announce(again, missing)
	r := w.start(noListing)
	w.requireRaw(rows)
	w.deadLetters(1)
	require.Eventually(t, func() bool { return r.metric("auditstream_fetcher_objects_total", "deadletter") == 1 }, patience, 10*time.Millisecond)
	have = gathered(t, r.registry)
	require.InDelta(t, 5, have["objects_total done"], 0)
	require.InDelta(t, 1, have["objects_total duplicate"], 0)
	require.InDelta(t, size, have["object_bytes_total done"], 0)
	require.InDelta(t, again.Size, have["object_bytes_total duplicate"], 0)
	require.InDelta(t, 7, have["object_bytes_total deadletter"], 0)
	require.InDelta(t, size, have["bytes_total stored"], 0)
	require.InDelta(t, 2, have["retries_total "+string(topics.ReasonObjectMissing)], 0)
	require.InDelta(t, 5, have["object_to_raw_seconds"], 0)
}
