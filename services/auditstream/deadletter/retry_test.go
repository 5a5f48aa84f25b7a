package deadletter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/services/auditstream/deadletter"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

var object = identity.ObjectID("store", "bucket", "logs/a", "etag")

func auditEvent(id string) string {
	return `{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"` + id + `","stage":"ResponseComplete","verb":"get","requestURI":"/healthz"}`
}

func quoted(text string) string {
	encoded, _ := json.Marshal(text)
	return string(encoded)
}

func (w *world) line(source string, number int64, text string) *kgo.Record {
	raw := topics.RawLine{Source: source, Object: object, Line: number, ReceivedAt: 1_767_225_600_000, Bytes: []byte(text)}
	return raw.Record(w.names().Raw)
}

// Lines that the configuration is changed for become the rows that they would
// have been, in the table too, and once.
func TestLinesBecomeTheirRows(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, brokers []string) {
		w := newWorld(t, brokers)
		engine := servers.ClickHouse(t)
		engine.Configure(&w.cfg.ClickHouse)
		w.cfg.ClickHouse.CreateTable = true
		w.cfg.Sink.BatchAge = 200 * time.Millisecond

		list := func(items string) string {
			return `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + items + `]}`
		}
		w.produce(
			w.line("later", 1, auditEvent("a")),
			w.line("known", 2, list(auditEvent("b0")+`,{"wrapped":`+auditEvent("b1")+`},`+auditEvent("b2"))),
			w.line("known", 3, `{"messageType":"DATA_MESSAGE","logGroup":"/aws/eks/blue/cluster","logEvents":[`+
				`{"id":"0","timestamp":1767225600000,"message":`+quoted(auditEvent("c0"))+`},`+
				`{"id":"1","timestamp":1767225600000,"message":`+quoted(`{"wrapped":`+auditEvent("c1")+`}`)+`}]}`),
			w.line("known", 4, list(`{"wrapped":`+list(auditEvent("d0")+`,`+auditEvent("d1"))+`}`)),
			w.line("known", 5, `no JSON`),
			w.line("known", 6, auditEvent("f")),
		)
		stop := w.stage(config.CommandEnricher)
		w.letters(5, deadletter.Filter{})
		before := w.rows(4)
		stop()

		w.cfg.Sources[0].EventKeys = []string{"wrapped"}
		w.cfg.Sources = append(w.cfg.Sources, config.Source{ID: "later", Workspace: "acme", Bucket: "elsewhere"})
		dry, _, err := w.retry(deadletter.Filter{}, func(o *deadletter.Options) { o.DryRun = true })
		require.NoError(t, err)
		require.Equal(t, deadletter.Totals{PutBack: 3, Refused: 2}, dry)
		w.committed(w.names().Raw, 6)

		totals, results, err := w.retry(deadletter.Filter{}, nil)
		require.NoError(t, err)
		require.Equal(t, deadletter.Totals{PutBack: 3, Refused: 2}, totals)
		for _, result := range results {
			switch line := result.Letter.Letter.Line; line {
			case 3:
				require.Equal(t, "with the line around it", result.Note)
			case 4:
				require.ErrorContains(t, result.Refused, "by now it gives 2 events")
			case 5:
				require.ErrorContains(t, result.Refused, "it would be set aside again: not-json")
			default:
				require.NoError(t, result.Refused, "line %d", line)
			}
		}
		w.committed(w.names().Raw, 6+3)

		totals, _, err = w.retry(deadletter.Filter{}, nil)
		require.NoError(t, err)
		require.Equal(t, deadletter.Totals{Already: 3, Refused: 2}, totals)
		w.committed(w.names().Raw, 6+3)
		w.letters(2, deadletter.Filter{})
		w.letters(5, deadletter.Filter{Retried: true})

		stop = w.stage(config.CommandEnricher)
		defer stop()
		rows := w.rows(4 + 3)
		want := []string{
			identity.RowID(object, 1, 0), identity.RowID(object, 2, 0), identity.RowID(object, 2, 1), identity.RowID(object, 2, 2),
			identity.RowID(object, 3, 0), identity.RowID(object, 3, 1), identity.RowID(object, 6, 0),
		}
		for _, id := range want {
			require.Contains(t, rows, id)
		}
		// What is around an event in its line gives columns too.
		first, second := before[identity.RowID(object, 3, 0)], rows[identity.RowID(object, 3, 1)]
		require.Equal(t, "c1", second.AuditID)
		require.NotEmpty(t, first.Tags)
		require.Equal(t, first.Tags, second.Tags)

		// A letter that fails again is a letter again.
		totals, _, err = w.retry(deadletter.Filter{Reason: "not-json"}, func(o *deadletter.Options) { o.Force = true })
		require.NoError(t, err)
		require.Equal(t, deadletter.Totals{PutBack: 1}, totals)
		letters := w.letters(2, deadletter.Filter{Reason: "not-json", Retried: true})
		require.False(t, letters[0].Retried.IsZero() && letters[1].Retried.IsZero())
		w.letters(1, deadletter.Filter{Reason: "not-json"})

		defer w.stage(config.CommandSink)()
		connection := engine.Conn(t)
		require.Eventually(t, func() bool {
			result, err := connection.Query(t.Context(), "SELECT id FROM kubernetes_audit_logs")
			if err != nil {
				return false
			}
			defer result.Close()
			var got []string
			for result.Next() {
				var id string
				require.NoError(t, result.Scan(&id))
				got = append(got, id)
			}
			slices.Sort(got)
			return slices.Equal(want, got)
		}, patience, 200*time.Millisecond)
	})
}

func (w *world) letter(d topics.DeadLetterRecord) deadletter.Position {
	w.t.Helper()
	record := d.Record(w.names().DeadLetter)
	w.produce(record)
	return deadletter.Position{Partition: record.Partition, Offset: record.Offset}
}

func (w *world) lineLetter(number int64) topics.DeadLetterRecord {
	return topics.DeadLetterRecord{
		Stage: "enricher", Reason: topics.ReasonUnknownSource, Topic: w.names().Raw, Source: "known", Object: object, Line: number,
		ReceivedAt: 1_767_225_600_000, Bytes: []byte(auditEvent(fmt.Sprint(number))),
	}
}

// Where the line is gone the part of it that the letter holds goes back.
func TestPartOfALineThatIsGone(t *testing.T) {
	w := newWorld(t, servers.Kafka(t))
	d := w.lineLetter(7)
	d.Extent, d.Event, d.Offset = event.PartOfLine, 3, 12345
	w.letter(d)
	whole := w.lineLetter(8)
	whole.Size = 1 << 20
	w.letter(whole)
	broken := w.lineLetter(9)
	broken.Reason = topics.ReasonMalformedRecord
	w.letter(broken)
	totals, results, err := w.retry(deadletter.Filter{}, nil)
	require.NoError(t, err)
	require.Equal(t, deadletter.Totals{PutBack: 1, Refused: 2}, totals)
	for _, result := range results {
		if result.Refused == nil {
			require.Contains(t, result.Note, "no longer in topic")
			continue
		}
		require.ErrorContains(t, result.Refused, "no longer in topic")
	}
	defer w.stage(config.CommandEnricher)()
	require.Contains(t, w.rows(1), identity.RowID(object, 7, 3))
}

// A record that was not understood goes back as it was.
func TestMalformedRecordGoesBackAsItWas(t *testing.T) {
	w := newWorld(t, servers.Kafka(t))
	original := &kgo.Record{Topic: w.names().Raw, Value: []byte("x"), Headers: []kgo.RecordHeader{{Key: "of", Value: []byte("a newer version")}}}
	w.produce(original)
	w.letter(topics.DeadLetterRecord{
		Stage: "enricher", Reason: topics.ReasonMalformedRecord, Topic: w.names().Raw, Partition: original.Partition, Offset: original.Offset, Bytes: []byte("x"),
	})
	totals, _, err := w.retry(deadletter.Filter{}, nil)
	require.NoError(t, err)
	require.Equal(t, deadletter.Totals{PutBack: 1}, totals)
	for _, record := range w.committed(w.names().Raw, 2) {
		require.Equal(t, original.Headers, record.Headers)
		require.Equal(t, "x", string(record.Value))
	}
}

// A run that dies before its transaction's end has done nothing.
func TestRetryThatIsAbortedDoesNothing(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, brokers []string) {
		w := newWorld(t, brokers)
		w.letter(w.lineLetter(1))
		fault, fired := errors.New("fault"), false
		_, results, err := w.retry(deadletter.Filter{}, func(o *deadletter.Options) {
			o.AtStep = func() error { fired = true; return fault }
		})
		require.ErrorIs(t, err, fault)
		require.True(t, fired)
		require.Empty(t, results)
		w.committed(w.names().Raw, 0)
		w.committed(w.names().DeadLetter, 1)
		totals, _, err := w.retry(deadletter.Filter{}, nil)
		require.NoError(t, err)
		require.Equal(t, deadletter.Totals{PutBack: 1}, totals)
		w.committed(w.names().Raw, 1)
		w.committed(w.names().DeadLetter, 2)
	})
}

// Of two runs at a time one puts back, or both a part.
func TestRetriesAtTheSameTime(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, brokers []string) {
		w := newWorld(t, brokers)
		const letters = 50
		for i := range letters {
			w.letter(w.lineLetter(int64(i) + 1))
		}
		var both sync.WaitGroup
		for range 3 {
			both.Go(func() { _, _, _ = w.retry(deadletter.Filter{}, nil) }) // one may be fenced
		}
		both.Wait()
		_, _, err := w.retry(deadletter.Filter{}, nil)
		require.NoError(t, err)
		seen := make(map[int64]bool)
		for _, record := range w.committed(w.names().Raw, letters) {
			line, err := topics.DecodeRawLine(record)
			require.NoError(t, err)
			seen[line.Line] = true
		}
		require.Len(t, seen, letters)
	})
}

// A mark may be hidden behind a stage's open transaction: until that is over
// nothing is put back.
func TestRetryWaitsForOpenTransactions(t *testing.T) {
	w := newWorld(t, servers.Kafka(t))
	w.letter(w.lineLetter(1))
	other, err := kgo.NewClient(kgo.SeedBrokers(w.cfg.Kafka.Brokers...), kgo.TransactionalID(w.cfg.Kafka.Group+"-other"))
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, other.BeginTransaction())
	open := w.lineLetter(2)
	require.NoError(t, other.ProduceSync(t.Context(), open.Record(w.names().DeadLetter)).FirstErr())

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = deadletter.Retry(ctx, w.options(), deadletter.Filter{}, func(deadletter.Result) {})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	w.committed(w.names().Raw, 0)
	require.NoError(t, other.EndTransaction(t.Context(), kgo.TryCommit))
	totals, _, err := w.retry(deadletter.Filter{}, nil)
	require.NoError(t, err)
	require.Equal(t, deadletter.Totals{PutBack: 2}, totals)
}

func TestFilters(t *testing.T) {
	w := newWorld(t, servers.Kafka(t))
	one, two, three := w.lineLetter(1), w.lineLetter(2), w.lineLetter(3)
	two.Source, two.Reason = "other", "not-json"
	three.Stage, three.Object = "fetcher", identity.ObjectID("store", "bucket", "logs/b", "etag")
	first, second, third := w.letter(one), w.letter(two), w.letter(three)
	w.produce(&kgo.Record{Topic: w.names().DeadLetter, Value: []byte("not one of ours")})
	for name, test := range map[string]struct {
		filter deadletter.Filter
		want   []deadletter.Position
	}{
		"reason": {deadletter.Filter{Reason: "not-json"}, []deadletter.Position{second}},
		"stage":  {deadletter.Filter{Stage: "fetcher"}, []deadletter.Position{third}},
		"source": {deadletter.Filter{Source: "other"}, []deadletter.Position{second}},
		"object": {deadletter.Filter{Objects: map[string]bool{three.Object: true}}, []deadletter.Position{third}},
		"named":  {deadletter.Filter{Positions: []deadletter.Position{first}}, []deadletter.Position{first}},
		"both":   {deadletter.Filter{Positions: []deadletter.Position{first}, Source: "other"}, nil},
		"later":  {deadletter.Filter{Since: time.Now().Add(time.Hour)}, nil},
		"before": {deadletter.Filter{Until: time.Now().Add(-time.Hour)}, nil},
	} {
		var got []deadletter.Position
		reader := w.reader()
		require.NoError(t, reader.Each(t.Context(), test.filter, func(l *deadletter.Letter) error {
			got = append(got, l.Position)
			return nil
		}), name)
		require.Equal(t, test.want, got, name)
	}
	w.letters(1, deadletter.Filter{Limit: 1})
	w.letters(1, deadletter.Filter{Reason: "unreadable"})
	_, _, err := w.retry(deadletter.Filter{Positions: []deadletter.Position{first, {Partition: 1, Offset: 99}}}, nil)
	require.ErrorIs(t, err, deadletter.ErrNoSuchLetter)
	require.ErrorContains(t, err, "1/99")
	w.committed(w.names().Raw, 0)
	totals, _, err := w.retry(deadletter.Filter{Positions: []deadletter.Position{first}}, nil)
	require.NoError(t, err)
	require.Equal(t, deadletter.Totals{PutBack: 1}, totals)
	// A mark is no letter.
	marks := make(map[deadletter.Position]bool)
	for _, record := range w.committed(w.names().DeadLetter, 5) {
		if topics.IsRetried(record) {
			marks[deadletter.Position{Partition: record.Partition, Offset: record.Offset}] = true
		}
	}
	require.Len(t, marks, 1)
	for mark := range marks {
		_, _, err = w.retry(deadletter.Filter{Positions: []deadletter.Position{mark}}, nil)
		require.ErrorIs(t, err, deadletter.ErrNoSuchLetter)
	}
}
