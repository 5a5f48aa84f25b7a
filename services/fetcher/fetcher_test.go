package fetcher_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/services/fetcher/split"
	"github.com/auditstream/auditstream/tests/servers"
)

// numbered are n lines of about size bytes.
func numbered(name string, n, size int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, `{"object":%q,"line":%d,"fill":%q}`+"\n", name, i+1, strings.Repeat("x", max(size-40, 0)))
	}
	return text.String()
}

func TestManySmallObjects(t *testing.T) {
	servers.EachKafka(t, manySmallObjects)
}

func manySmallObjects(t *testing.T, brokers []string) {
	w := newWorld(t, brokers...)
	want := make(expected)
	for i := range 150 {
		key := fmt.Sprintf("logs/%03d.json", i)
		text := numbered(key, 20, 100)
		if i%2 == 0 {
			want.lines(w.put(key+".gz", zip(text)), text)
		} else {
			want.lines(w.put(key, []byte(text)), text)
		}
	}
	w.put("logs/", nil)
	w.put("logs/empty", nil)
	w.put("elsewhere/other.json", []byte("not under the prefix\n"))
	r := w.start(nil)
	w.requireRaw(want)
	require.EqualValues(t, 150, r.metric("auditstream_fetcher_announced_total"))
	require.EqualValues(t, 1, r.metric("auditstream_fetcher_intake_skipped_total", "empty"))
	require.EqualValues(t, 1, r.metric("auditstream_fetcher_intake_skipped_total", "directory"))

	// What comes later is found by the next passes, and nothing again.
	text := "late\n"
	want.lines(w.put("logs/zzz late + odd %2F key", []byte(text)), text)
	w.requireRaw(want)
	require.EqualValues(t, 151, r.metric("auditstream_fetcher_announced_total"))
	r.stop()

	again := w.start(nil)
	text = "later\n"
	want.lines(w.put("logs/zzzz", []byte(text)), text)
	w.requireRaw(want)
	require.EqualValues(t, 1, again.metric("auditstream_fetcher_announced_total"), "a restart announces nothing again")
	w.deadLetters(0)
}

func TestLargeObjectThroughAbortAndCrash(t *testing.T) {
	for _, form := range []string{"plain", "gzip"} {
		t.Run(form, func(t *testing.T) {
			servers.EachKafka(t, func(t *testing.T, brokers []string) { largeObject(t, brokers, form) })
		})
	}
}

func largeObject(t *testing.T, brokers []string, form string) {
	w := newWorld(t, brokers...)
	want := make(expected)
	text := numbered("large", 6000, 1000) // about 23 slices
	content := []byte(text)
	if form == "gzip" {
		content = zip(text[:1<<20], text[1<<20:])
	}
	want.lines(w.put("logs/large", content), text)
	small := numbered("small", 10, 100)
	want.lines(w.put("logs/small", []byte(small)), small)

	// Crashes between any two steps, the third time that they are reached.
	for _, step := range []split.Step{split.StepBegun, split.StepRead, split.StepTold} {
		w.start(func(o *fetcher.Options) { o.AtStep = crashAt(step, 4) }).crashed()
	}
	// Aborts: the instance goes on, the transaction is void.
	aborted := 0
	r := w.start(func(o *fetcher.Options) { o.AtStep = abortEvery(5, &aborted) })
	w.requireRaw(want)
	require.Positive(t, aborted)
	require.Positive(t, r.metric("auditstream_fetcher_reopened_total"))
	w.deadLetters(0)
}
