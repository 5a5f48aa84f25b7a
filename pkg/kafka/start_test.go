package kafka_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/kafka"
)

func TestPartitionsAddedLater(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 1), b.topic("out", 1)
		b.fill(in, 1, 0, 10)
		opts := b.options("a", in)
		opts.Start.OutputTopics = []string{out}
		opts.Client = append(opts.Client, kgo.MetadataMaxAge(time.Second))
		start(t, opts, copyTo(out))
		b.want(out, 10)
		_, err := b.admin.CreatePartitions(t.Context(), 2, in)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			topics, err := b.admin.ListTopics(t.Context(), in)
			return err == nil && len(topics[in].Partitions) == 3
		}, patience, 50*time.Millisecond)
		grown := newBroker(t, b.addresses) // a client that knows all three
		grown.fill(in, 3, 10, 40)
		b.want(out, 40)
	})
}

// stops starts an instance and waits until it reports the gap; no record may
// be handed out.
func (b *broker) stops(opts kafka.TransactionOptions, text string) {
	b.t.Helper()
	health := &healthRecorder{}
	opts.Health = health
	stopped := start(b.t, opts, func(context.Context, *kafka.Transaction) error {
		return errors.New("a record was handed out in spite of the gap")
	})
	require.Eventually(b.t, func() bool {
		ok, err := health.get("test offsets")
		return ok && err != nil && strings.Contains(err.Error(), text)
	}, patience, 20*time.Millisecond)
	stopped.stop()
}

func TestMissingOffsetsStop(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 1), b.topic("out", 1)
		b.fill(in, 1, 0, 10)
		b.fill(out, 1, 0, 3) // an earlier life of the group wrote these
		opts := b.options("a", in)
		opts.Start.OutputTopics = []string{out}
		b.stops(opts, in+"/0 [0,10)")

		opts = b.options("a", in)
		opts.Start = kafka.StartPolicy{OutputTopics: []string{out}, AcceptGap: true}
		start(t, opts, func(_ context.Context, tx *kafka.Transaction) error {
			for _, record := range tx.Records() {
				number, _ := strconv.Atoi(string(record.Value))
				tx.Produce(&kgo.Record{Topic: out, Value: []byte(strconv.Itoa(number + 3))})
			}
			return nil
		})
		b.want(out, 13)
	})
}

func TestRemovedRecordsStop(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 1), b.topic("out", 1)
		b.fill(in, 1, 0, 10)
		first := start(t, b.options("a", in), copyTo(out))
		b.want(out, 10)
		first.stop()
		b.fill(in, 1, 10, 30)
		remove := kadm.Offsets{}
		remove.AddOffset(in, 0, 20, -1)
		_, err := b.admin.DeleteRecords(t.Context(), remove)
		require.NoError(t, err)
		b.stops(b.options("a", in), in+"/0 [10,20)")

		opts := b.options("a", in)
		opts.Start.AcceptGap = true
		var got []string
		done := make(chan struct{})
		start(t, opts, func(_ context.Context, tx *kafka.Transaction) error {
			for _, record := range tx.Records() {
				got = append(got, string(record.Value))
			}
			if len(got) == 10 {
				close(done)
			}
			return nil
		})
		<-done
		require.Equal(t, "20", got[0])
	})
}

func TestTopicMadeAnewStops(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in := b.topic("in", 1)
		b.fill(in, 1, 0, 5)
		offsets := kadm.Offsets{}
		offsets.AddOffset(in, 0, 9, -1)
		opts := b.options("a", in)
		require.NoError(t, b.admin.CommitAllOffsets(t.Context(), opts.Group, offsets))
		b.stops(opts, in+"/0 [9,5)")
	})
}

func TestLag(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in := b.topic("in", 2)
		b.fill(in, 2, 0, 10)
		offsets := kadm.Offsets{}
		offsets.AddOffset(in, 0, 2, -1)
		require.NoError(t, b.admin.CommitAllOffsets(t.Context(), b.name("group"), offsets))
		lags, err := kafka.ReadLag(t.Context(), b.client, b.name("group"), in)
		require.NoError(t, err)
		byPartition := make(map[int32]kafka.Lag)
		for _, lag := range lags {
			byPartition[lag.Partition] = lag
		}
		require.Equal(t, []int32{0, 1}, slices.Sorted(maps.Keys(byPartition)))
		require.Equal(t, kafka.Lag{Topic: in, Partition: 0, Committed: 2, Stable: 3, HighWatermark: 3}, byPartition[0])
		require.Equal(t, kafka.Lag{Topic: in, Partition: 1, Committed: -1, Stable: 5, HighWatermark: 5}, byPartition[1])
	})
}
