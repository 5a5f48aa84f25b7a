package fetcher_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/services/fetcher"
)

// What is counted is what was committed, each once: also where transactions are
// aborted and their work is done again.
func TestMetricsCountWhatIsCommitted(t *testing.T) {
	for _, test := range []struct {
		name       string
		abortEvery int
	}{{"no aborts", 0}, {"aborts", 3}} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			want := make(expected)
			small, large := numbered("small", 20, 100)+"\n \n", numbered("large", 3000, 400)
			var stored, decompressed int
			for key, content := range map[string][]byte{
				"logs/small": []byte(small), "logs/small.gz": zip(small),
				"logs/large": []byte(large), "logs/large.gz": zip(large),
			} {
				text := small
				if strings.Contains(key, "large") {
					text = large
				}
				want.lines(w.put(key, content), text)
				stored += len(content)
				decompressed += len(text)
				object := w.stored(key)
				w.announce(object, object)
			}
			w.announce(w.object("logs/missing", "0123456789abcdef0123456789abcdef"))
			aborted := 0
			r := w.start(func(o *fetcher.Options) {
				noListing(o)
				o.Config.ObjectsPerTransaction = 3
				if test.abortEvery > 0 {
					o.AtStep = abortEvery(test.abortEvery, &aborted)
				}
			})
			w.requireRaw(want)
			w.deadLetters(1)
			require.Eventually(t, func() bool {
				return r.metric("auditstream_fetcher_objects_total", "duplicate") == 4 && r.metric("auditstream_fetcher_objects_total", "done") == 4
			}, patience, 10*time.Millisecond)
			r.stop()

			require.EqualValues(t, len(want), r.metric("auditstream_fetcher_lines_total"))
			require.EqualValues(t, 4, r.metric("auditstream_fetcher_blank_lines_total"))
			require.EqualValues(t, decompressed, r.metric("auditstream_fetcher_bytes_total", "decompressed"))
			require.EqualValues(t, 1, r.metric("auditstream_fetcher_objects_total", "deadletter"))
			require.EqualValues(t, 1, r.metric("auditstream_fetcher_dead_letters_total", "object-missing"))
			require.EqualValues(t, 2, r.metric("auditstream_fetcher_retries_total", "object-missing"))
			require.EqualValues(t, 2, r.metric("auditstream_fetcher_objects_total", "retried"))
			if test.abortEvery == 0 {
				require.EqualValues(t, stored, r.metric("auditstream_fetcher_bytes_total", "stored"))
				return
			}
			// Opened again, an object is read again.
			require.GreaterOrEqual(t, r.metric("auditstream_fetcher_bytes_total", "stored"), float64(stored))
			require.Positive(t, aborted)
		})
	}
}
