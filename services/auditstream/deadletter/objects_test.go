package deadletter_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/services/auditstream/deadletter"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

func linesOf(count int) string {
	var text strings.Builder
	for i := range count {
		text.WriteString(auditEvent(fmt.Sprint(i+1)) + "\n")
	}
	return text.String()
}

// raw are the lines in the topic, by number.
func (w *world) raw(count int) map[int64]string {
	w.t.Helper()
	lines := make(map[int64]string)
	for _, record := range w.committed(w.names().Raw, count) {
		line, err := topics.DecodeRawLine(record)
		require.NoError(w.t, err)
		lines[line.Line] = string(line.Bytes)
	}
	return lines
}

// announcements are the records of objects that start work, by object and
// generation.
func (w *world) announcements(records []*kgo.Record) map[string]topics.Object {
	w.t.Helper()
	found := make(map[string]topics.Object)
	for _, record := range records {
		object, err := topics.DecodeObject(record.Value)
		require.NoError(w.t, err)
		if object.Cause.Announces() {
			found[fmt.Sprintf("%s %d", object.Key, object.Generation)] = object
		}
	}
	return found
}

// An object that was away goes on after the last line that it had given.
func TestObjectGoesOn(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, brokers []string) {
		w := newWorld(t, brokers)
		content := linesOf(10)
		etag := w.put("logs/elsewhere", content)

		fresh, half := w.object("logs/fresh", etag), w.object("logs/half", etag)
		half.Generation, half.Splitting = 3, topics.SplitLines
		half.FromLine, half.FromByte = 5, int64(len(linesOf(4)))
		later := w.object("logs/half", etag) // a retry of another time
		later.Generation, later.Cause = 5, topics.CauseRetried
		w.announce(fresh, half, later)
		stop := w.stage(config.CommandFetcher)
		letters := w.letters(3, deadletter.Filter{Reason: topics.ReasonObjectMissing})
		for _, letter := range letters {
			require.NotEmpty(t, letter.URI)
		}
		stop()
		w.committed(w.names().Raw, 0)

		w.put("logs/fresh", content)
		w.put("logs/half", content)
		chosen := deadletter.Filter{Objects: map[string]bool{fresh.ID: true, half.ID: true}}
		totals, results, err := w.retry(chosen, nil)
		require.NoError(t, err)
		require.Equal(t, deadletter.Totals{PutBack: 3}, totals)
		notes := make(map[string]bool)
		for _, result := range results {
			notes[result.URI[strings.LastIndex(result.URI, "/")+1:]+": "+result.Note] = true
		}
		// Whatever the order of the two of logs/half, each is above all before.
		require.True(t, notes["fresh: generation 1, from line 1"], notes)
		require.True(t, notes["half: generation 6, from line 5"] && notes["half: generation 7, from line 1"] ||
			notes["half: generation 7, from line 5"] && notes["half: generation 6, from line 1"], notes)

		again, _, err := w.retry(chosen, nil)
		require.NoError(t, err)
		require.Equal(t, deadletter.Totals{Already: 3}, again)
		defer w.stage(config.CommandFetcher)()
		times := make(map[string]int)
		for _, record := range w.committed(w.names().Raw, 10+6+10) {
			line, err := topics.DecodeRawLine(record)
			require.NoError(t, err)
			require.Equal(t, auditEvent(fmt.Sprint(line.Line)), string(line.Bytes))
			times[fmt.Sprintf("%s %d", line.Object, line.Line)]++
		}
		for i := range int64(10) {
			require.Equal(t, 1, times[fmt.Sprintf("%s %d", fresh.ID, i+1)])
			want := 1
			if i+1 >= 5 {
				want = 2
			}
			require.Equal(t, want, times[fmt.Sprintf("%s %d", half.ID, i+1)], "line %d", i+1)
		}
	})
}

// The object of a line over the limit is fetched again when the limit is right.
func TestLineOverTheLimit(t *testing.T) {
	w := newWorld(t, servers.Kafka(t))
	long := strings.Replace(auditEvent("long"), `"verb"`, `"x":"`+strings.Repeat("x", 100<<10)+`","verb"`, 1)
	etag := w.put("logs/long", auditEvent("1")+"\n"+long+"\n"+auditEvent("3")+"\n"+long+"\n")
	object := w.object("logs/long", etag)
	w.announce(object)
	stop := w.stage(config.CommandFetcher)
	letters := w.letters(2, deadletter.Filter{Reason: topics.ReasonLineTooLong})
	require.EqualValues(t, len(long), letters[0].Letter.Size)
	stop()
	require.Len(t, w.raw(2), 2)

	totals, results, err := w.retry(deadletter.Filter{}, nil)
	require.NoError(t, err)
	require.Equal(t, deadletter.Totals{Refused: 2}, totals)
	require.ErrorContains(t, results[0].Refused, "raise it, run topics apply")

	w.cfg.Topics.LineLimit = 256 << 10
	totals, _, err = w.retry(deadletter.Filter{}, nil)
	require.NoError(t, err)
	require.Equal(t, deadletter.Totals{PutBack: 2}, totals)
	found := w.announcements(w.committed(w.names().Objects, 2)) // one for both
	require.Contains(t, found, "logs/long 1")
	defer w.stage(config.CommandFetcher)()
	require.Equal(t, map[int64]string{1: auditEvent("1"), 2: long, 3: auditEvent("3"), 4: long}, w.raw(2+4))

	unknown := w.object("logs/unknown", "etag")
	w.letter(topics.DeadLetterRecord{
		Stage: "fetcher", Reason: topics.ReasonLineTooLong, Topic: w.names().Objects, Object: unknown.ID, Source: "known", Line: 3, Bytes: []byte(`{"a`),
	})
	_, results, err = w.retry(deadletter.Filter{Objects: map[string]bool{unknown.ID: true}}, nil)
	require.NoError(t, err)
	require.ErrorContains(t, results[0].Refused, "announce it with backfill")
}

// Messages of queues are read anew; what is none is left.
func TestMessages(t *testing.T) {
	w := newWorld(t, servers.Kafka(t))
	w.cfg.Sources[0].Queue.URL = "https://sqs.eu-central-1.amazonaws.com/1/audit"
	w.cfg.Sources[0].Queue.Events = []string{"s3:ObjectCreated:*"}
	bucket := w.cfg.Sources[0].Bucket
	etag := w.put("logs/told", linesOf(3))
	body := func(key, etag string) []byte {
		return []byte(`{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","eventTime":"2026-01-01T00:00:00Z",` +
			`"s3":{"bucket":{"name":"` + bucket + `"},"object":{"key":"` + key + `","size":` + fmt.Sprint(len(linesOf(3))) + `,"eTag":"` + etag + `"}}}]}`)
	}
	letter := func(body []byte) deadletter.Position {
		return w.letter(topics.DeadLetterRecord{Stage: "fetcher", Reason: topics.ReasonNotANotification, Source: "known", Bytes: body})
	}
	good, bare := letter(body("logs/told", etag)), letter(body("logs/told", ""))
	gone, junk, foreign := letter(body("logs/gone", "")), letter([]byte("junk")), letter(body("elsewhere", etag))
	totals, results, err := w.retry(deadletter.Filter{Reason: topics.ReasonNotANotification}, nil)
	require.NoError(t, err)
	require.Equal(t, deadletter.Totals{PutBack: 2, Refused: 3}, totals)
	for _, result := range results {
		switch result.Position {
		case good, bare:
			require.NoError(t, result.Refused)
			require.Equal(t, w.names().Objects, result.To)
		case gone:
			require.ErrorContains(t, result.Refused, "logs/gone")
		case junk:
			require.ErrorContains(t, result.Refused, "not an S3 notification")
		case foreign:
			require.ErrorContains(t, result.Refused, "no object that a configured source")
		}
	}
	want := w.object("logs/told", etag)
	for _, record := range w.committed(w.names().Objects, 2) {
		object, err := topics.DecodeObject(record.Value)
		require.NoError(t, err)
		require.Equal(t, want.ID, object.ID)
		require.Zero(t, object.Generation)
	}
	w.cfg.Sources[0].Queue.URL = "" // there is none to ask
	defer w.stage(config.CommandFetcher)()
	require.Len(t, w.raw(3), 3)
}

func TestWhatCantGoBackSaysWhy(t *testing.T) {
	w := newWorld(t, servers.Kafka(t))
	value, err := json.Marshal(w.object("logs/a", "etag"))
	require.NoError(t, err)
	strange := w.object("logs/b", "etag")
	strange.Source = "strange"
	strangeValue, err := json.Marshal(strange)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		letter topics.DeadLetterRecord
		want   string
	}{
		"topic":   {topics.DeadLetterRecord{Stage: "enricher", Reason: "not-json", Topic: "other.raw", Bytes: []byte("x")}, "none of this configuration's"},
		"object":  {topics.DeadLetterRecord{Stage: "fetcher", Reason: "malformed-record", Topic: w.names().Objects, Bytes: []byte("x")}, "no record of objects"},
		"source":  {topics.DeadLetterRecord{Stage: "fetcher", Reason: "unknown-source", Topic: w.names().Objects, Object: strange.ID, Bytes: strangeValue}, `source "strange"`},
		"line":    {topics.DeadLetterRecord{Stage: "enricher", Reason: "not-json", Topic: w.names().Raw, Source: "known", Bytes: []byte(auditEvent("a"))}, "does not say enough"},
		"sources": {topics.DeadLetterRecord{Stage: "enricher", Reason: "unknown-source", Topic: w.names().Raw, Source: "strange", Object: object, Line: 1, Bytes: value}, `source "strange" is not in the configuration`},
		"row":     {topics.DeadLetterRecord{Stage: "sink", Reason: "malformed-record", Topic: w.names().Normalized, Bytes: []byte("x")}, "no longer in topic"},
	} {
		position := w.letter(test.letter)
		_, results, err := w.retry(deadletter.Filter{Positions: []deadletter.Position{position}}, nil)
		require.NoError(t, err, name)
		require.Len(t, results, 1, name)
		require.ErrorContains(t, results[0].Refused, test.want, name)
	}
	w.committed(w.names().Raw, 0)
	w.committed(w.names().Objects, 0)
}
