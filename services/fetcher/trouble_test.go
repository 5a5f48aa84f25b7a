package fetcher_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/services/fetcher/split"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

// noListing leaves announcing to the test.
func noListing(o *fetcher.Options) { o.Sources[0].Listing.Enabled = false }

func TestObjectsThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	text := numbered("x", 50, 200)

	good := w.put("logs/good", []byte(text))
	want.lines(good, text)

	forbidden := w.put("logs/forbidden", []byte(text))
	broken := w.put("logs/broken", []byte(text))
	w.faults.set(func(rw http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, "/logs/forbidden"):
			rw.WriteHeader(http.StatusForbidden)
			_, _ = rw.Write([]byte(`<Error><Code>AccessDenied</Code><Message>no</Message></Error>`))
		case strings.HasSuffix(r.URL.Path, "/logs/broken"):
			rw.WriteHeader(http.StatusInternalServerError)
			_, _ = rw.Write([]byte(`<Error><Code>InternalError</Code><Message>broken</Message></Error>`))
		default:
			return false
		}
		return true
	})

	w.put("logs/changed", []byte("before\n"))
	changed := w.stored("logs/changed")
	w.put("logs/changed", []byte("after\n"))

	// A gzip object that is cut, one with a flipped bit, one with zeros after it:
	// what was whole lines before stays.
	whole := zip(text)
	cut := w.put("logs/cut", whole[:len(whole)-20])
	flipped := slices.Clone(whole)
	flipped[len(flipped)-6] ^= 1 // in the checksum
	checksum := w.put("logs/checksum", flipped)
	padded := w.put("logs/padded", append(zip(text), make([]byte, 512)...))
	for _, id := range []string{checksum, padded} {
		want.lines(id, text)
	}
	header := w.put("logs/header", []byte{0x1f, 0x8b, 8, 0xff, 1, 2})

	missing := w.object("logs/missing", "0123456789abcdef0123456789abcdef")
	elsewhere := w.object("logs/good", "1")
	w.put("logs/stranger", []byte(text))
	stranger := w.stored("logs/stranger")
	stranger.Source = "nobody"
	for _, key := range []string{"good", "forbidden", "broken", "cut", "checksum", "padded", "header"} {
		w.announce(w.stored("logs/" + key))
	}
	w.announce(changed, missing, stranger)
	require.NoError(t, w.client.ProduceSync(t.Context(),
		&kgo.Record{Topic: w.names.Objects, Value: []byte(`{"id":`)},
		&kgo.Record{Topic: w.names.Objects, Value: slices.Concat(mustJSON(t, elsewhere)[:1], []byte(`"splitting":"later",`), mustJSON(t, elsewhere)[1:])},
	).FirstErr())

	r := w.start(noListing)
	letters := w.deadLetters(11)
	// The lines of the cut object up to the cut.
	for _, letter := range letters {
		if letter.Object == cut {
			require.Positive(t, letter.Line)
			want.lines(cut, strings.Join(strings.SplitAfter(text, "\n")[:letter.Line], ""))
		}
	}
	w.requireRaw(want)

	type fate struct {
		object string
		reason topics.Reason
		line   int64
	}
	got := make(map[fate]int)
	for _, letter := range letters {
		line := letter.Line
		if letter.Object == cut {
			line = -1
		}
		got[fate{letter.Object, letter.Reason, line}]++
		require.NotEmpty(t, letter.Error)
		require.Equal(t, split.Stage, letter.Stage)
		if letter.Reason != topics.ReasonMalformedRecord {
			object, err := topics.DecodeObject(letter.Bytes)
			require.NoError(t, err)
			require.Equal(t, letter.Line+1, object.FromLine, "it says where to go on")
			require.Equal(t, sourceOf(letter), letter.Source)
		}
	}
	require.Equal(t, map[fate]int{
		{forbidden, topics.ReasonObjectForbidden, 0}: 1,
		{broken, topics.ReasonObjectUnavailable, 0}:  1,
		{changed.ID, topics.ReasonObjectChanged, 0}:  1,
		{missing.ID, topics.ReasonObjectMissing, 0}:  1,
		{stranger.ID, topics.ReasonUnknownSource, 0}: 1,
		{cut, topics.ReasonObjectCorrupt, -1}:        1,
		{checksum, topics.ReasonObjectCorrupt, 50}:   1,
		{padded, topics.ReasonObjectCorrupt, 50}:     1,
		{header, topics.ReasonObjectCorrupt, 0}:      1,
		{"", topics.ReasonMalformedRecord, 0}:        2,
	}, got)
	require.Positive(t, w.faults.fired.Load())
	w.requireLedger(map[string]string{
		forbidden:   "g0 1-0 deadletter object-forbidden",
		broken:      "g0 1-0 deadletter object-unavailable",
		changed.ID:  "g0 1-0 deadletter object-changed",
		missing.ID:  "g0 1-0 deadletter object-missing",
		stranger.ID: "g0 1-0 deadletter unknown-source",
		checksum:    "g0 1-50 deadletter object-corrupt",
		padded:      "g0 1-50 deadletter object-corrupt",
		header:      "g0 1-0 deadletter object-corrupt",
		good:        "g0 1-50 complete",
	}, cut)
	require.Positive(t, r.metric("auditstream_fetcher_retries_total", "object-missing"))
	_, now := w.health.get("s3")
	require.NoError(t, now)
}

func sourceOf(letter topics.DeadLetterRecord) string {
	if letter.Reason == topics.ReasonUnknownSource {
		return "nobody"
	}
	return sourceID
}

func mustJSON(t *testing.T, value any) []byte {
	t.Helper()
	data, err := json.Marshal(value)
	require.NoError(t, err)
	return data
}

func TestLinesOfAnObject(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	text := "first\r\n\n  \r\nfifth is below\nno last newline"
	plain := w.put("logs/plain", []byte(text))
	want.lines(plain, text)
	members := w.put("logs/members", zip("first\r\n", "\n", "", "  \r\nfifth is", " below\nno last newline"))
	want.lines(members, text)

	// A line over the limit between others, larger than a slice.
	long := strings.Repeat("0123456789", 100_000)
	id := w.put("logs/long", zip("before\n"+long+"\nafter\n"))
	want.lines(id, "before\n\nafter\n")

	r := w.start(nil)
	letters := w.deadLetters(1)
	require.Equal(t, topics.ReasonLineTooLong, letters[0].Reason)
	require.Equal(t, id, letters[0].Object)
	require.EqualValues(t, 2, letters[0].Line)
	require.Equal(t, long[:64<<10], string(letters[0].Bytes))
	require.Contains(t, letters[0].Error, "1000000 bytes")
	w.requireRaw(want)
	require.EqualValues(t, 4, r.metric("auditstream_fetcher_blank_lines_total"))
	w.requireLedger(map[string]string{
		plain:   "g0 1-5 complete, skip blank[[2 3]]",
		members: "g0 1-5 complete, skip blank[[2 3]]",
		id:      "deadletter line-too-long[[2 2]], g0 1-3 complete",
	})
}

func TestAnnouncedAgain(t *testing.T) { servers.EachKafka(t, announcedAgain) }

func announcedAgain(t *testing.T, brokers []string) {
	w := newWorld(t, brokers...)
	want := make(expected)
	text := numbered("again", 2000, 500)
	want.lines(w.put("logs/again", []byte(text)), text) // not compressed, so that it counts as large
	object := w.stored("logs/again")
	w.announce(object, object)

	// Around aborts and a crash.
	aborted := 0
	abort := abortEvery(2, &aborted)
	crash := crashAt(split.StepTold, 3)
	w.start(func(o *fetcher.Options) {
		noListing(o)
		o.AtStep = func(step split.Step) error {
			if err := crash(step); err != nil {
				return err
			}
			return abort(step)
		}
	}).crashed()
	w.announce(object)
	r := w.start(noListing)
	w.requireRaw(want)
	require.Positive(t, aborted)
	r.stop()

	// After a restart, by listing and by announcing.
	r = w.start(func(o *fetcher.Options) { o.Config.ObjectsPerTransaction = 1 })
	w.announce(object)
	require.Eventually(t, func() bool { return r.metric("auditstream_fetcher_objects_total", "duplicate") == 1 }, patience, 20*time.Millisecond)
	w.requireRaw(want)

	// A deliberate repeat raises the generation, and gives the same rows.
	object.Generation, object.Cause = 1, topics.CauseReplayed
	w.announce(object)
	records := w.committed(w.names.Raw, func(records []*kgo.Record) bool { return len(records) >= 2*len(want) })
	require.Len(t, records, 2*len(want))
	w.deadLetters(0)
}

func TestInstancesComeAndGo(t *testing.T) { servers.EachKafka(t, instancesComeAndGo) }

func instancesComeAndGo(t *testing.T, brokers []string) {
	w := newWorld(t, brokers...)
	want := make(expected)
	for i := range 40 {
		key := fmt.Sprintf("logs/%02d.gz", i)
		text := numbered(key, 400+i*20, 500)
		want.lines(w.put(key, zip(text)), text)
	}
	named := func(name string) func(*fetcher.Options) {
		return func(o *fetcher.Options) {
			o.Instance = name
			o.Config.ObjectsPerTransaction = 5
			o.Config.OpenObjects = 3
		}
	}
	one := w.start(named("one"))
	for i := range 3 {
		two := w.start(named("two"))
		require.Eventually(t, func() bool { return two.metric("auditstream_fetcher_lines_total") > 0 || i > 0 }, patience, 10*time.Millisecond)
		one.stop()
		one = w.start(named("one"))
		two.stop()
	}
	w.requireRaw(want)
	w.deadLetters(0)
}

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

// noise is lines that don't compress, so that a buffer never holds an object.
func noise(size int) string {
	random := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, 0, size+100)
	for len(text) < size {
		text = strconv.AppendUint(text, random.Uint64(), 36)
		if random.IntN(30) == 0 {
			text = append(text, '\n')
		}
	}
	return string(append(text, '\n'))
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

// cutter passes on some bytes of a body.
type cutter struct {
	http.ResponseWriter
	left int
	end  func()
}

func (c *cutter) Write(p []byte) (int, error) {
	if n := min(len(p), c.left); n > 0 {
		c.left -= n
		if _, err := c.ResponseWriter.Write(p[:n]); err != nil {
			return 0, err
		}
		c.ResponseWriter.(http.Flusher).Flush() //nolint:forcetypeassert // of this server
	}
	if c.left == 0 {
		c.end()
	}
	return len(p), nil
}

func (c *cutter) Flush() { c.ResponseWriter.(http.Flusher).Flush() } //nolint:forcetypeassert // as above

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

// A later try waits for its time without going round and round, and without
// keeping others waiting.
func TestLaterTriesDoNotSpin(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	w.announce(w.object("logs/missing", "0123456789abcdef0123456789abcdef"))
	r := w.start(func(o *fetcher.Options) {
		noListing(o)
		o.Config.Attempts = 4
		o.Config.Backoff = 600 * time.Millisecond
	})
	require.Eventually(t, func() bool { return r.metric("auditstream_fetcher_retries_total") > 0 }, patience, 10*time.Millisecond)
	text := numbered("good", 10, 100)
	want.lines(w.put("logs/good", []byte(text)), text)
	w.announce(w.stored("logs/good"))
	w.requireRaw(want)
	letters := w.deadLetters(1)
	require.Equal(t, topics.ReasonObjectMissing, letters[0].Reason)

	ends, err := kadm.NewClient(w.client).ListEndOffsets(t.Context(), w.names.Objects)
	require.NoError(t, err)
	var written int64
	ends.Each(func(end kadm.ListedOffset) { written += end.Offset })
	require.Less(t, written, int64(30), "records in objects, ends of transactions included")
}

func TestStopsWhileTheBrokerIsAway(t *testing.T) {
	broker := servers.EmbeddedKafka(t, "")
	w := newWorld(t, broker.Addresses()...)
	w.put("logs/stop", []byte(noise(20<<20)))
	// An end of a transaction that is under way may use up the transaction's time.
	r := w.start(func(o *fetcher.Options) { o.Kafka.TransactionTimeout = 8 * time.Second })
	require.Eventually(t, func() bool { return r.metric("auditstream_fetcher_lines_total") > 0 }, patience, time.Millisecond)
	require.NoError(t, broker.Close())
	w.put("logs/unannounced", []byte("text\n"))
	listed := r.metric("auditstream_fetcher_listings_total", "complete")
	require.Eventually(t, func() bool { // its announcement is under way: the pass does not end
		time.Sleep(500 * time.Millisecond)
		now := r.metric("auditstream_fetcher_listings_total", "complete")
		ended := now == listed
		listed = now
		return ended
	}, patience, time.Millisecond)
	began := time.Now()
	r.stop()
	require.Less(t, time.Since(began), 25*time.Second)
}

func TestStopsInOrder(t *testing.T) {
	w := newWorld(t)
	text := numbered("stop", 20000, 300)
	want := make(expected)
	want.lines(w.put("logs/stop", zip(text)), text)
	for range 3 {
		r := w.start(nil)
		require.Eventually(t, func() bool { return r.metric("auditstream_fetcher_lines_total") > 0 }, patience, time.Millisecond)
		began := time.Now()
		r.stop()
		require.Less(t, time.Since(began), 5*time.Second)
	}
	w.start(nil)
	w.requireRaw(want)
}
