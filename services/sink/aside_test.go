package sink

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/topics"
)

// bad produces a record that is no row and gives its place: without an id, or
// with the id of a row and broken after it.
func (b *bench) bad(partition int32, value []byte) string {
	b.t.Helper()
	record := &kgo.Record{Topic: b.names.Normalized, Partition: partition, Value: value}
	require.NoError(b.t, b.client.ProduceSync(b.t.Context(), record).FirstErr())
	return fmt.Sprintf("%s/%d/%d", record.Topic, record.Partition, record.Offset)
}

func (b *bench) brokenRow(number int) []byte {
	row := b.row(number)
	return append(topics.AppendNormalized(nil, &row), 0xff, 0xff)
}

// letters are how often each record is in the topic `deadletter`.
func (b *bench) letters() map[string]int {
	b.t.Helper()
	bounds, err := kafka.Bounds(b.t.Context(), b.admin, b.names.DeadLetter, time.Time{}, time.Time{})
	require.NoError(b.t, err)
	found := make(map[string]int)
	require.NoError(b.t, kafka.Scan(b.t.Context(), []kgo.Opt{kgo.SeedBrokers(b.brokers...)}, bounds, func(record *kgo.Record) error {
		letter, err := topics.DecodeDeadLetter(record)
		require.NoError(b.t, err)
		require.Equal(b.t, "sink", letter.Stage)
		require.Equal(b.t, topics.ReasonMalformedRecord, letter.Reason)
		require.NotEmpty(b.t, letter.Bytes)
		found[fmt.Sprintf("%s/%d/%d", letter.Topic, letter.Partition, letter.Offset)]++
		return nil
	}))
	return found
}

// What is no row becomes a dead letter and the stream goes on, whatever crashes
// on the way; every row is there once.
func TestMalformedRecordsAreSetAside(t *testing.T) {
	for name, step := range map[string]Step{
		"no crash": "", "before the intent": StepChosen, "after the intent": StepIntended, "after the insert": StepInserted, "after the commit": StepCommitted,
	} {
		t.Run(name, func(t *testing.T) {
			b := kfake(t, 3)
			_, err := b.admin.CreateTopic(t.Context(), 1, 1, nil, b.names.DeadLetter)
			require.NoError(t, err)
			b.adjust = func(o *Options) { o.DeadLetter = b.names.DeadLetter }
			var want []string
			b.produce(0, 50)
			want = append(want, b.bad(0, []byte("not an event")))
			b.produce(0, 120)
			want = append(want, b.bad(0, b.brokenRow(999_999)))
			// One that has the id of a row before it must not take its place.
			want = append(want, b.bad(0, b.brokenRow(b.produced)))
			b.produce(0, 5)
			want = append(want, b.bad(1, []byte("nothing")), b.bad(1, []byte("but this"))) // no row in all the partition
			want = append(want, b.bad(2, b.brokenRow(999_998)))                            // nor here

			if step != "" {
				hook, fired := crashAt(step, 1)
				require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
				require.True(t, fired())
			}
			r := b.start(nil)
			b.wantAll()
			require.NoError(t, r.stop())
			got := b.letters()
			for _, place := range want {
				require.NotZero(t, got[place], "%s has no dead letter", place)
				if step == "" {
					require.Equal(t, 1, got[place], place)
				}
				delete(got, place)
			}
			require.Empty(t, got)
		})
	}
}

// A record that says two ids is the row of the last, also beside one that is set aside.
func TestRowThatSaysTwoIDsIsNotLeftOut(t *testing.T) {
	b := kfake(t, 1)
	_, err := b.admin.CreateTopic(t.Context(), 1, 1, nil, b.names.DeadLetter)
	require.NoError(t, err)
	b.adjust = func(o *Options) { o.DeadLetter = b.names.DeadLetter }
	b.produce(0, 3)
	b.produced++
	other, row := b.row(999_999), b.row(b.produced)
	two := protowire.AppendTag(nil, fieldID, protowire.BytesType)
	two = protowire.AppendString(two, other.ID)
	b.bad(0, append(two, topics.AppendNormalized(nil, &row)...))
	b.bad(0, b.brokenRow(999_998))
	r := b.start(nil)
	b.wantAll()
	require.NoError(t, r.stop())
	require.Len(t, b.letters(), 1)
}
