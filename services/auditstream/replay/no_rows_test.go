package replay_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/services/auditstream/replay"
	"github.com/auditstream/auditstream/services/sink"
	"github.com/auditstream/auditstream/topics"
)

// place is where a record is.
type place struct {
	partition int32
	offset    int64
}

// notRows produces records to `normalized` that are no rows: nonsense, rows
// broken after their ids, one of them with the id of a row that is there.
func (w *world) notRows() []place {
	w.t.Helper()
	broken := func(id string) []byte {
		row := event.Row{WorkspaceID: "acme", SourceID: "one", ID: id, ReceivedAt: uint32(received.Unix())}
		return append(topics.AppendNormalized(nil, &row), 0xff, 0xff)
	}
	var places []place
	for _, value := range [][]byte{
		[]byte("not an event"), broken(identity.RowID(w.object("one", "a"), 1, 0)), broken(identity.RowID(w.object("two", "x"), 7, 0)), []byte("nor this"),
	} {
		record := &kgo.Record{Topic: w.cfg.Topics.Names().Normalized, Value: value}
		require.NoError(w.t, w.client.ProduceSync(w.t.Context(), record).FirstErr())
		places = append(places, place{record.Partition, record.Offset})
	}
	return places
}

// setAside are the records that the sink has set aside.
func (w *world) setAside() map[place]bool {
	w.t.Helper()
	bounds, err := kafka.Bounds(w.t.Context(), w.admin, w.cfg.Topics.Names().DeadLetter, time.Time{}, time.Time{})
	require.NoError(w.t, err)
	found := make(map[place]bool)
	require.NoError(w.t, kafka.Scan(w.t.Context(), []kgo.Opt{kgo.SeedBrokers(w.cfg.Kafka.Brokers...)}, bounds, func(record *kgo.Record) error {
		letter, err := topics.DecodeDeadLetter(record)
		require.NoError(w.t, err)
		if letter.Stage == "sink" {
			found[place{letter.Partition, letter.Offset}] = true
		}
		return nil
	}))
	return found
}

// A replay of `normalized` passes over what the sink sets aside, just that, and
// says how much it was, in whichever table and wherever it dies.
func TestNormalizedPassesOverWhatIsNoRow(t *testing.T) {
	w := newWorld(t)
	w.lines("one", "a", 1, 400)
	stop := w.start(config.CommandEnricher, config.CommandSink)
	w.settled()
	bad := w.notRows()
	w.lines("two", "c", 1, 100)
	w.settled()
	require.Eventually(t, func() bool { return len(w.setAside()) == len(bad) }, patience, poll)
	stop()
	for _, at := range bad {
		require.True(t, w.setAside()[at], at)
	}

	into := w.options(replay.FromNormalized)
	into.Name, into.Into = "into", "again"
	summary := w.replay(into)
	w.wantEach("again", 1, w.want)
	require.EqualValues(t, len(bad), summary.Malformed)
	require.EqualValues(t, len(w.want), summary.Rows)
	require.EqualValues(t, len(w.want)+len(bad), summary.Records)
	require.Contains(t, summary.String(), "4 records no rows, passed over as the sink sets them aside")

	one := w.options(replay.FromNormalized) // a filter has to read them
	one.Name, one.Into, one.Source = "one", "of_one", "one"
	summary = w.replay(one)
	w.wantEach("of_one", 1, w.those(w.object("one", "a")))
	require.EqualValues(t, len(bad), summary.Malformed)
	require.EqualValues(t, 360, summary.Rows)

	same := w.options(replay.FromNormalized) // rows take the place of others
	for _, step := range []sink.Step{sink.StepIntended, sink.StepInserted, sink.StepCommitted} {
		killed := same
		seen := dies(&killed, step, 2)
		require.ErrorContains(t, w.fails(killed), "died", step)
		require.Positive(t, seen.Load())
	}
	w.replay(same)
	w.wantView()
	require.Len(t, w.setAside(), len(bad), "a replay writes no dead letters")
}
