package fetcher_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/services/fetcher/split"
	"github.com/auditstream/auditstream/topics"
)

// What was announced before the horizon is known after a restart, too; what
// comes late is found wherever its key sorts.
func TestListingRemembersBeyondTheHorizon(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	for i := range 40 {
		key := fmt.Sprintf("logs/m/%03d.json", i)
		text := numbered(key, 3, 100)
		want.lines(w.put(key, []byte(text)), text)
	}
	const horizon = 4 * time.Second
	short := func(o *fetcher.Options) { o.Config.DedupeHorizon = horizon }
	r := w.start(short)
	w.requireRaw(want)
	// Until a note is younger than the horizon and the announcements are older.
	records := w.committed(w.names.Objects, func(records []*kgo.Record) bool {
		var announced, noted time.Time
		for _, record := range records {
			if !topics.IsNoted(record) {
				announced = record.Timestamp
			} else if note, err := topics.DecodeNoted(record.Value); err == nil && note.Last {
				noted = record.Timestamp
			}
		}
		return noted.Sub(announced) > horizon
	})
	r.stop()
	require.NotEmpty(t, records)
	require.EqualValues(t, 40, r.metric("auditstream_fetcher_announced_total"))

	text := "late\n"
	want.lines(w.put("logs/a/late", []byte(text)), text)
	again := w.start(short)
	w.requireRaw(want)
	require.EqualValues(t, 1, again.metric("auditstream_fetcher_announced_total"), "a restart announces nothing again")
	require.Positive(t, r.metric("auditstream_fetcher_objects_total", "note"))
	w.deadLetters(0)
}

// What was announced and noted, and is missing from the log before anyone read
// it, is announced again when the gap is accepted.
func TestAGapVoidsWhatWasNoted(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	for i := range 30 {
		key := fmt.Sprintf("logs/%03d.json", i)
		text := numbered(key, 3, 100)
		want.lines(w.put(key, []byte(text)), text)
	}
	// Announced and noted, and not worked on.
	r := w.start(func(o *fetcher.Options) {
		o.AtStep = func(step split.Step) error {
			if step == split.StepTold {
				return kafka.ErrAbort
			}
			return nil
		}
	})
	ends := make(map[int32]int64) // of what is to go missing: all before the note's end
	w.committed(w.names.Objects, func(records []*kgo.Record) bool {
		noted := false
		for _, record := range records {
			if !topics.IsNoted(record) {
				ends[record.Partition] = max(ends[record.Partition], record.Offset+1)
			}
			noted = noted || topics.IsNoted(record)
		}
		return noted
	})
	r.stop()
	require.Len(t, ends, partitions)
	deletion := make(kadm.Offsets)
	for partition, end := range ends {
		deletion.AddOffset(w.names.Objects, partition, end, -1)
	}
	deleted, err := kadm.NewClient(w.client).DeleteRecords(t.Context(), deletion)
	require.NoError(t, err)
	require.NoError(t, deleted.Error())

	r = w.start(func(o *fetcher.Options) { o.Kafka.AcceptGap = true })
	w.requireRaw(want)
	w.deadLetters(0)
	require.GreaterOrEqual(t, r.metric("auditstream_fetcher_accepted_gaps_total"), 1.0)
	voids := 0
	for _, record := range w.committed(w.names.Objects, func(records []*kgo.Record) bool { return len(records) >= partitions }) {
		if topics.IsVoid(record) {
			voids++
		}
	}
	require.GreaterOrEqual(t, voids, 2*partitions)
	r.stop()

	// And not once more: the gap is behind it.
	again := w.start(nil)
	require.Eventually(t, func() bool { return again.metric("auditstream_fetcher_listings_total", "complete") > 1 }, patience, 10*time.Millisecond)
	require.Zero(t, again.metric("auditstream_fetcher_announced_total"))
	w.requireRaw(want)
}

// A store without ETags: what is overwritten would have the same id, so nothing
// of it is read, and that is told once, however an object is found.
func TestObjectsWithoutETag(t *testing.T) {
	w := newWorld(t)
	text := "line\n"
	w.put("logs/listed", []byte(text))
	tag := regexp.MustCompile(`<ETag>[^<]*</ETag>`)
	w.faults.set(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("list-type") != "2" {
			return false
		}
		recorded := httptest.NewRecorder()
		w.faults.proxy.ServeHTTP(recorded, r)
		body := tag.ReplaceAll(recorded.Body.Bytes(), nil)
		rw.Header().Set("Content-Type", "application/xml")
		rw.WriteHeader(recorded.Code)
		_, _ = rw.Write(body)
		return true
	})
	w.announce(w.object("logs/notified", ""), w.object("logs/notified", ""))
	r := w.start(nil)
	letters := w.deadLetters(2)
	require.Eventually(t, func() bool { return r.metric("auditstream_fetcher_listings_total", "complete") > 2 }, patience, 10*time.Millisecond)
	letters = append(letters[:0], w.deadLetters(2)...)
	var keys []string
	for _, letter := range letters {
		require.Equal(t, topics.ReasonObjectWithoutETag, letter.Reason)
		object, err := topics.DecodeObject(letter.Bytes)
		require.NoError(t, err)
		keys = append(keys, object.Key)
	}
	require.ElementsMatch(t, []string{"logs/listed", "logs/notified"}, keys)
	require.Positive(t, w.faults.fired.Load())
	require.EqualValues(t, 2, r.metric("auditstream_fetcher_dead_letters_total", string(topics.ReasonObjectWithoutETag)))
	w.requireRaw(make(expected))
}

// A source that is new to some instances waits for them to be rolled out.
func TestASourceThatIsRolledOut(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	old := func(o *fetcher.Options) { // does not know the source yet
		o.Sources = []config.Source{{ID: "older", Bucket: w.bucket, Prefix: "older/"}}
		o.Config.Attempts, o.Config.Backoff = 1000, 100*time.Millisecond
	}
	r := w.start(old)
	for i := range 10 {
		key := fmt.Sprintf("logs/%02d", i)
		text := numbered(key, 5, 100)
		want.lines(w.put(key, []byte(text)), text)
		w.announce(w.stored(key), w.stored(key)) // twice: waiting doesn't make it two
	}
	require.Eventually(t, func() bool {
		return r.metric("auditstream_fetcher_retries_total", string(topics.ReasonUnknownSource)) >= 15
	}, patience, 10*time.Millisecond)
	w.announce(w.stored("logs/00"))
	require.Zero(t, r.metric("auditstream_fetcher_dead_letters_total"))
	_, now := w.health.get("s3")
	require.NoError(t, now)
	r.stop()

	r = w.start(func(o *fetcher.Options) { o.Config.Backoff = 100 * time.Millisecond })
	w.requireRaw(want)
	w.deadLetters(0)
}
