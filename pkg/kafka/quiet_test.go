package kafka_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
)

// A topic that is written by transactions ends with a transaction's end, which
// is no record. When retention has removed everything, a group that has read
// everything must stand at the log's end, or it would seem to have missed some.
func TestPartitionReadToItsEndAndEmptiedByRetentionIsNoGap(t *testing.T) {
	eachKafka(t, func(t *testing.T, b *broker) {
		source, between, target := b.topic("in", 1), b.topic("between", 1), b.topic("out", 1)
		b.fill(source, 1, 0, 10)
		first := start(t, b.options("a", source), copyTo(between))
		b.want(between, 10)
		first.stop()

		opts := b.options("b", between)
		opts.Group = b.name("second")
		opts.Start.OutputTopics = []string{target}
		second := start(t, opts, copyTo(target))
		b.want(target, 10)
		ends, err := b.admin.ListEndOffsets(t.Context(), between)
		require.NoError(t, err)
		end, _ := ends.Lookup(between, 0)
		require.Eventually(t, func() bool {
			offsets, err := b.admin.FetchOffsets(t.Context(), opts.Group)
			require.NoError(t, err)
			offset, _ := offsets.Lookup(between, 0)
			return offset.At == end.Offset
		}, 20*time.Second, 20*time.Millisecond, "the offset after the transaction's end is committed")
		second.stop()

		all := make(kadm.Offsets)
		all.Add(kadm.Offset{Topic: between, Partition: 0, At: end.Offset})
		_, err = b.admin.DeleteRecords(t.Context(), all)
		require.NoError(t, err)

		// It goes on: what is written after that comes through.
		again := b.options("b", between)
		again.Group = opts.Group
		again.Start.OutputTopics = []string{target}
		start(t, again, copyTo(target))
		b.fill(source, 1, 10, 20)
		more := b.options("a", source)
		start(t, more, copyTo(between))
		b.want(target, 20)
	})
}
