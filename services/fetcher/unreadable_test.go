package fetcher_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/services/fetcher/split"
	"github.com/auditstream/auditstream/topics"
)

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
