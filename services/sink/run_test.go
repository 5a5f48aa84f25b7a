package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/topics"
)

// runOver records a run for the bench's group.
func (b *bench) runOver(id string, partitions map[int32]Range) {
	b.t.Helper()
	require.NoError(b.t, CommitRun(b.t.Context(), b.client, b.group, b.names.Normalized, id, partitions))
	b.adjust = func(o *Options) { o.Bounded = true }
}

func (b *bench) wantIDs(times uint64, from, to int) {
	b.t.Helper()
	want := make(map[string]uint64)
	for number := from; number <= to; number++ {
		want[fmt.Sprintf("%032x-%012d", 1, number)] = times
	}
	require.True(b.t, maps.Equal(want, b.ids()), "want rows %d to %d, %d times each; got %v", from, to, times, b.ids())
}

func TestRunEndsAtItsEnd(t *testing.T) {
	b := kfake(t, 2)
	b.produce(0, 500)
	b.produce(1, 3) // nothing of it is wanted
	b.runOver("first", map[int32]Range{0: {From: 120, Until: 450}, 1: {From: 2, Until: 2}})
	require.NoError(t, b.start(nil).wait())
	b.wantIDs(1, 121, 450)
	state, err := ReadRun(t.Context(), b.client, b.group, b.names.Normalized)
	require.NoError(t, err)
	require.Equal(t, &RunState{ID: "first", Partitions: map[int32]Range{0: {450, 450}, 1: {2, 2}}, Whole: map[int32]Range{0: {120, 450}, 1: {2, 2}}}, state)
	require.True(t, state.Ended())

	// It has ended, and is not begun again.
	require.NoError(t, b.start(nil).wait())
	b.wantIDs(1, 121, 450)
}

func TestRunGoesOnAfterACrashAtEachStep(t *testing.T) {
	for _, step := range []Step{StepChosen, StepIntended, StepInserted, StepCommitted} {
		t.Run(string(step), func(t *testing.T) {
			b := kfake(t, 1)
			b.produce(0, 500)
			b.runOver("first", map[int32]Range{0: {From: 0, Until: 480}})
			hook, fired := crashAt(step, 2)
			require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
			require.True(t, fired())
			require.NoError(t, b.start(nil).wait())
			b.wantIDs(1, 1, 480)
		})
	}
}

// A second run over the same records is not dropped for the tokens of the first.
func TestRunReplaces(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 200)
	b.runOver("first", map[int32]Range{0: {From: 0, Until: 200}})
	require.NoError(t, b.start(nil).wait())
	b.wantIDs(1, 1, 200)

	var lost atomic.Int32
	b.wrap = func(inner Table) Table {
		return &faulty{inner, func(ctx context.Context, token string, rows []*kgo.Record) (clickhouse.Inserted, error) {
			if lost.Add(1) == 2 {
				return clickhouse.Inserted{}, &clickhouse.InsertError{Sent: true, Err: errors.New("nothing arrived, and who knows")}
			}
			return inner.Insert(ctx, token, rows)
		}}
	}
	b.runOver("second", map[int32]Range{0: {From: 0, Until: 200}})
	bounded := b.adjust
	b.adjust = func(o *Options) { bounded(o); o.Replace = true }
	require.NoError(t, b.start(nil).wait())
	require.Greater(t, lost.Load(), int32(2))
	b.wantIDs(2, 1, 200)
}

func TestRunStopsAtAGap(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 100)
	require.NoError(t, CommitRun(t.Context(), b.client, b.group, b.names.Normalized, "first", map[int32]Range{0: {From: 0, Until: 100}}))
	b.deleteTo(0, 30)
	b.adjust = func(o *Options) { o.Bounded = true }
	err := b.start(nil).wait()
	require.ErrorContains(t, err, "[0,30)")
}

func TestSinkWithoutRunRefusesOne(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 10)
	b.runOver("first", map[int32]Range{0: {From: 0, Until: 10}})
	b.adjust = nil
	r := b.start(nil)
	r.wantIll(r.component(0), "do not fit")
	require.NoError(t, r.stop())
	require.Empty(t, b.ids())
}

// Records that are no rows themselves: each gives two, none, or one.
func TestExpandedRecords(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 300)
	b.runOver("first", map[int32]Range{0: {From: 0, Until: 300}})
	bounded := b.adjust
	b.adjust = func(o *Options) {
		bounded(o)
		o.NewExpand = func() Expand {
			return func(record *kgo.Record) ([]*kgo.Record, error) {
				var row event.Row
				if err := topics.DecodeNormalized(record.Value, &row); err != nil {
					return nil, err
				}
				switch {
				case record.Offset >= 100 && record.Offset < 210: // more than a batch without rows
					return nil, nil
				case record.Offset%2 == 1:
					return []*kgo.Record{record}, nil
				}
				second := *record
				row.ID += ".000001"
				second.Value = topics.AppendNormalized(nil, &row)
				return []*kgo.Record{record, &second}, nil
			}
		}
	}
	hook, fired := crashAt(StepInserted, 2)
	require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
	require.True(t, fired())
	require.NoError(t, b.start(nil).wait())
	want := make(map[string]uint64)
	for offset := range 300 {
		if offset >= 100 && offset < 210 {
			continue
		}
		id := fmt.Sprintf("%032x-%012d", 1, offset+1)
		want[id] = 1
		if offset%2 == 0 {
			want[id+".000001"] = 1
		}
	}
	require.Equal(t, want, b.ids())
}

// Where the loss of the first records is accepted, the run is kept, and ends at
// its end also when that is lost too.
func TestRunGoesOnOverAnAcceptedGap(t *testing.T) {
	for _, until := range []int64{90, 20} {
		t.Run(fmt.Sprint("until ", until), func(t *testing.T) {
			b := kfake(t, 1)
			b.accept = true
			b.produce(0, 100)
			b.runOver("first", map[int32]Range{0: {From: 0, Until: until}})
			b.deleteTo(0, 30)
			if until > 30 {
				hook, fired := crashAt(StepChosen, 1)
				require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
				require.True(t, fired())
			}
			require.NoError(t, b.start(nil).wait())
			b.wantIDs(1, 31, int(until))
			state, err := ReadRun(t.Context(), b.client, b.group, b.names.Normalized)
			require.NoError(t, err)
			require.Equal(t, "first", state.ID)
			require.True(t, state.Ended())
		})
	}
}
