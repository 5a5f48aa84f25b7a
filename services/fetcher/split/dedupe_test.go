package split

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/topics"
)

// slice is a log of one partition.
type slice []*kgo.Record

func (s slice) Earliest(_ context.Context, positions map[int32]int64) (time.Time, error) {
	for _, record := range s {
		if record.Offset >= positions[0] {
			return record.Timestamp, nil
		}
	}
	return time.Now(), nil
}

func (s slice) Until(_ context.Context, ends map[int32]int64, since time.Time, yield func(*kgo.Record)) error {
	for _, record := range s {
		if !record.Timestamp.Before(since) && record.Offset < ends[0] {
			yield(record)
		}
	}
	return nil
}

type announcedAt struct {
	key        string
	generation int
	minute     int
	cause      topics.Cause
}

func logOf(t *testing.T, start time.Time, entries []announcedAt) slice {
	t.Helper()
	var log slice
	for i, entry := range entries {
		object := topics.Object{
			ID: identity.ObjectID("e", "b", entry.key, "1"), Source: "s", Endpoint: "e", Bucket: "b", Key: entry.key, ETag: "1",
			Generation: entry.generation, FromLine: 1, Cause: entry.cause,
		}
		if object.Cause == "" {
			object.Cause = topics.CauseListed
		}
		record, err := object.Record("objects")
		require.NoError(t, err)
		record.Offset = int64(2 * i) // with holes, as transactions leave them
		record.Timestamp = start.Add(time.Duration(entry.minute) * time.Minute)
		log = append(log, record)
	}
	return log
}

// decide asks for each record from a position on, as a transaction would.
func decide(t *testing.T, d *dedupe, log slice, from int64) string {
	t.Helper()
	var answers bytes.Buffer
	for _, record := range log {
		if record.Offset < from {
			continue
		}
		object, err := topics.DecodeObject(record.Value)
		require.NoError(t, err)
		switch {
		case !object.Cause.Announces():
			answers.WriteByte('-')
		case d.isFirst(&object, record):
			answers.WriteByte('F')
		default:
			answers.WriteByte('.')
		}
	}
	return answers.String()
}

func testDedupe(t *testing.T, log slice, horizon time.Duration, most int) *dedupe {
	t.Helper()
	m, err := NewMetrics(nil)
	require.NoError(t, err)
	return newDedupe(log, horizon, most, m, slog.New(slog.DiscardHandler))
}

func TestLowestOffsetWithinTheHorizon(t *testing.T) {
	log := logOf(t, time.Now().Add(-24*time.Hour), []announcedAt{
		{key: "a"}, {key: "b", minute: 1}, {key: "a", minute: 2}, {key: "a", generation: 1, minute: 3},
		{key: "a", minute: 4, cause: topics.CauseContinued}, {key: "c", minute: 30}, {key: "b", minute: 31},
		{key: "b", minute: 65}, {key: "a", minute: 66}, {key: "c", minute: 67}, {key: "a", minute: 68}, {key: "b", minute: 126},
	})
	const want = "FF.F-F..F..F"
	d := testDedupe(t, log, time.Hour, 100)
	require.Equal(t, want, decide(t, d, log, 0))

	// The answers are the same wherever an owner begins, again after an abort, and
	// however late it is.
	for i := range log {
		from := log[i].Offset
		d := testDedupe(t, log, time.Hour, 100)
		require.NoError(t, d.load(t.Context(), map[int32]int64{0: from}))
		require.Equal(t, want[i:], decide(t, d, log, from), "from offset %d", from)
		d.aborted()
		require.Equal(t, want[i:], decide(t, d, log, from), "again from offset %d", from)
		d.committed()
		d.drop(0)
		require.Zero(t, d.count)
	}
}

func TestDedupeIsBounded(t *testing.T) {
	var entries []announcedAt
	for i := range 5000 {
		entries = append(entries, announcedAt{key: fmt.Sprint(i)})
	}
	log := logOf(t, time.Now(), entries)
	d := testDedupe(t, log, time.Hour, 100)
	require.NoError(t, d.load(t.Context(), map[int32]int64{0: 10_000}))
	require.Equal(t, 100, d.count)
	require.Len(t, d.partitions[0].lowest, 100)
	require.Less(t, cap(d.partitions[0].order), 4000)
	last := log[len(log)-1]
	object, err := topics.DecodeObject(last.Value)
	require.NoError(t, err)
	again := *last
	again.Offset++
	require.False(t, d.isFirst(&object, &again), "the newest are remembered")
}

func TestRecordsAreThoseOfTopics(t *testing.T) {
	object := topics.Object{Source: "source", ID: identity.ObjectID("e", "b", "k", "1")}
	made := newRecords("raw", &object, 1_700_000_000_123)
	for line := int64(1); line < 1000; line++ {
		text := fmt.Appendf(nil, "text %d", line)
		want := topics.RawLine{Source: "source", Object: object.ID, Line: line, ReceivedAt: 1_700_000_000_123, Bytes: text}
		require.Equal(t, want.Record("raw"), made.record(text, line))
	}
}

func BenchmarkLines(b *testing.B) {
	line := bytes.Repeat([]byte("x"), 1023)
	content := bytes.Repeat(append(line, '\n'), 16<<10)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		reader := newLineReader(window{source: bytes.NewReader(content), blocks: new(blocks)}, 1<<20)
		out := newRecords("raw", &topics.Object{}, 1)
		for n := int64(1); ; n++ {
			l, err := reader.next(1 << 20)
			if err != nil {
				break
			}
			out.record(l.text, n)
		}
	}
}
