package fetcher_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/services/fetcher/split"
)

func TestStoreAway(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	text := noise(8 << 20)
	want.lines(w.put("logs/large", []byte(text)), text)
	for i := range 20 {
		small := numbered("small", 5, 100)
		want.lines(w.put(fmt.Sprintf("logs/small-%d", i), []byte(small)), small)
	}
	var away atomic.Bool
	w.faults.set(func(rw http.ResponseWriter, _ *http.Request) bool {
		if away.Load() {
			hangUp(rw)
		}
		return false
	})
	r := w.start(func(o *fetcher.Options) {
		var steps atomic.Int64
		o.AtStep = func(split.Step) error {
			if steps.Add(1) == 4 {
				away.Store(true)
				w.proxy.CloseClientConnections()
			}
			return nil
		}
	})
	require.Eventually(t, func() bool {
		bad, now := w.health.get("s3")
		return now != nil && bad > 1
	}, patience, 20*time.Millisecond, "the store is reported away")
	listing, _ := w.health.get("listing " + sourceID)
	require.Positive(t, listing)
	away.Store(false)
	w.requireRaw(want)
	_, now := w.health.get("s3")
	require.NoError(t, now)
	require.Zero(t, r.metric("auditstream_fetcher_dead_letters_total"))
	w.deadLetters(0)
}

func TestReadGoesOnAfterAReset(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	text := numbered("reset", 5000, 400)
	want.lines(w.put("logs/plain", []byte(text)), text)
	want.lines(w.put("logs/zipped", zip(text)), text)
	stallBody := numbered("stall", 3000, 400)
	want.lines(w.put("logs/stalls", []byte(stallBody)), stallBody)

	var resets, stalls atomic.Int64
	w.faults.set(func(rw http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/logs/"):
			return false
		case strings.HasSuffix(r.URL.Path, "/stalls"):
			if stalls.Add(1) > 1 {
				return false
			}
			w.faults.proxy.ServeHTTP(&cutter{ResponseWriter: rw, left: 100_000, end: func() { <-r.Context().Done() }}, r)
			return true
		case resets.Add(1) > 8:
			return false
		}
		if resets.Load() > 2 && r.Header.Get("If-Match") == "" {
			t.Error("going on without If-Match")
		}
		w.faults.proxy.ServeHTTP(&cutter{ResponseWriter: rw, left: 20_000 * int(resets.Load()), end: func() { hangUp(rw) }}, r)
		return true
	})
	r := w.start(func(o *fetcher.Options) { o.Config.StallTimeout = 300 * time.Millisecond })
	w.requireRaw(want)
	w.deadLetters(0)
	require.Greater(t, resets.Load(), int64(4))
	require.Greater(t, stalls.Load(), int64(1))
	require.Positive(t, r.metric("auditstream_fetcher_resumed_reads_total"))
}

// More large objects than places: those without one wait, and none is read from
// its start again and again.
func TestMoreLargeObjectsThanPlaces(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	const objects = 12
	var size int64
	for i := range objects {
		text := numbered(strconv.Itoa(i), 2000, 500)
		content := zip(text)
		size += int64(len(content))
		want.lines(w.put(fmt.Sprintf("logs/%02d", i), content), text)
	}
	r := w.start(func(o *fetcher.Options) {
		o.Config.OpenObjects = 2
		o.Config.ObjectsPerTransaction = 4
		o.Config.SliceSize = 128 << 10
	})
	w.requireRaw(want)
	require.LessOrEqual(t, r.metric("auditstream_fetcher_bytes_total", "stored"), 1.6*float64(size))
	require.Positive(t, r.metric("auditstream_fetcher_objects_total", "postponed"))
	require.LessOrEqual(t, r.metric("auditstream_fetcher_open_objects"), 2.0)
	w.deadLetters(0)
}

// A store that gives nothing for longer than a transaction lasts costs neither
// the stream nor, however often it does so, the object.
func TestAStoreThatIsSlowCostsNoStream(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	text := noise(500_000)
	want.lines(w.put("logs/slow", zip(text)), text)
	var reads, pauses atomic.Int64
	w.faults.set(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/logs/slow") {
			return false
		}
		reads.Add(1)
		w.faults.proxy.ServeHTTP(&halting{ResponseWriter: rw, every: 100_000, halt: func() {
			pauses.Add(1)
			rw.(http.Flusher).Flush() //nolint:forcetypeassert // of this server
			time.Sleep(1200 * time.Millisecond)
		}}, r)
		return true
	})
	w.start(func(o *fetcher.Options) {
		o.Kafka.TransactionTimeout = 4 * time.Second // of which reading has 0.85 s
		o.Config.StallTimeout = 10 * time.Second
		o.Config.Attempts = 2
	})
	w.requireRaw(want)
	w.deadLetters(0)
	require.Greater(t, pauses.Load(), int64(2))
	require.EqualValues(t, 1, reads.Load(), "it is read once, from its start to its end")
}

// halting halts after every so many bytes.
type halting struct {
	http.ResponseWriter
	every, since int
	halt         func()
}

func (h *halting) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n, err := h.ResponseWriter.Write(p[:min(len(p), h.every-h.since)])
		written, p = written+n, p[n:]
		if h.since += n; err != nil {
			return written, err
		}
		if h.since == h.every {
			h.since = 0
			h.halt()
		}
	}
	return written, nil
}
