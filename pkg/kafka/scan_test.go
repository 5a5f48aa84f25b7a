package kafka_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/tests/servers"
)

// scan reads ranges and gives the values by partition.
func (b *broker) scan(ranges kafka.Ranges, yield func(*kgo.Record) error) (map[int32][]string, error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	got := make(map[int32][]string)
	err := kafka.Scan(ctx, []kgo.Opt{kgo.SeedBrokers(b.addresses...)}, ranges, func(record *kgo.Record) error {
		got[record.Partition] = append(got[record.Partition], string(record.Value))
		if yield != nil {
			return yield(record)
		}
		return nil
	})
	return got, err
}

func (b *broker) bounds(topic string, since, until time.Time) kafka.Ranges {
	b.t.Helper()
	ranges, err := kafka.Bounds(b.t.Context(), b.admin, topic, since, until)
	require.NoError(b.t, err)
	return ranges
}

// transact produces values to a partition in one transaction. Brokers answer its
// end before they have written it to the partition; transact waits for that.
func (b *broker) transact(topic string, partition int32, end kgo.TransactionEndTry, values ...string) {
	b.t.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.TransactionalID(b.name("tx")), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(b.t, err)
	defer producer.Close()
	require.NoError(b.t, producer.BeginTransaction())
	for _, value := range values {
		require.NoError(b.t, producer.ProduceSync(b.t.Context(), &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)}).FirstErr())
	}
	require.NoError(b.t, producer.EndTransaction(b.t.Context(), end))
	require.Eventually(b.t, func() bool {
		stable, err := b.admin.ListCommittedOffsets(b.t.Context(), topic)
		require.NoError(b.t, err)
		written, err := b.admin.ListEndOffsets(b.t.Context(), topic)
		require.NoError(b.t, err)
		return stable[topic][partition].Offset == written[topic][partition].Offset
	}, 30*time.Second, 5*time.Millisecond)
}

func (b *broker) deleteBefore(topic string, partition int32, offset int64) {
	b.t.Helper()
	before := make(kadm.Offsets)
	before.Add(kadm.Offset{Topic: topic, Partition: partition, At: offset})
	_, err := b.admin.DeleteRecords(b.t.Context(), before)
	require.NoError(b.t, err)
}

func values(from, to, step int) (result []string) {
	for i := from; i < to; i += step {
		result = append(result, strconv.Itoa(i))
	}
	return result
}

func TestScanReadsEachRangeAndEnds(t *testing.T) {
	eachKafka(t, func(t *testing.T, b *broker) {
		topic := b.topic("in", 3) // the third partition stays empty
		b.fill(topic, 2, 0, 20)
		all := b.bounds(topic, time.Time{}, time.Time{})
		require.Equal(t, kafka.Ranges{topic: {0: {From: 0, To: 10}, 1: {From: 0, To: 10}, 2: {}}}, all)
		require.EqualValues(t, 20, all.Offsets())
		got, err := b.scan(all, nil)
		require.NoError(t, err)
		require.Equal(t, map[int32][]string{0: values(0, 20, 2), 1: values(1, 20, 2)}, got)

		got, err = b.scan(kafka.Ranges{topic: {0: {From: 3, To: 6}, 1: {From: 9, To: 10}, 2: {From: 5, To: 5}}}, nil)
		require.NoError(t, err)
		require.Equal(t, map[int32][]string{0: {"6", "8", "10"}, 1: {"19"}}, got)

		got, err = b.scan(nil, nil)
		require.NoError(t, err)
		require.Empty(t, got)
	})
}

func TestScanEndsWhereNoRecordIs(t *testing.T) {
	eachKafka(t, func(t *testing.T, b *broker) {
		topic := b.topic("in", 3)
		b.transact(topic, 0, kgo.TryCommit, "a", "b") // 0, 1; its end is 2
		b.transact(topic, 0, kgo.TryAbort, "x", "y")  // 3, 4; 5
		b.transact(topic, 1, kgo.TryAbort, "x")       // 0; 1
		b.transact(topic, 2, kgo.TryAbort, "x", "y")  // 0, 1; 2
		b.transact(topic, 2, kgo.TryCommit, "c")      // 3; 4
		all := b.bounds(topic, time.Time{}, time.Time{})
		require.Equal(t, kafka.Ranges{topic: {0: {From: 0, To: 6}, 1: {From: 0, To: 2}, 2: {From: 0, To: 5}}}, all)
		got, err := b.scan(all, nil)
		require.NoError(t, err)
		require.Equal(t, map[int32][]string{0: {"a", "b"}, 2: {"c"}}, got)

		// Ranges that end inside what was aborted, or hold only a transaction's end.
		got, err = b.scan(kafka.Ranges{topic: {0: {From: 1, To: 4}, 1: {From: 1, To: 2}, 2: {From: 0, To: 1}}}, nil)
		require.NoError(t, err)
		require.Equal(t, map[int32][]string{0: {"b"}}, got)
	})
}

func TestScanGoesOnWhereRetentionMovedTheLog(t *testing.T) {
	eachKafka(t, func(t *testing.T, b *broker) {
		topic := b.topic("in", 2)
		b.fill(topic, 2, 0, 20)
		all := b.bounds(topic, time.Time{}, time.Time{})
		b.deleteBefore(topic, 0, 10)
		b.deleteBefore(topic, 1, 7)
		got, err := b.scan(all, nil)
		require.NoError(t, err)
		require.Equal(t, map[int32][]string{1: {"15", "17", "19"}}, got)
	})
}

func TestScanLeavesOpenTransactionsAlone(t *testing.T) {
	eachKafka(t, func(t *testing.T, b *broker) {
		topic := b.topic("in", 1)
		b.fill(topic, 1, 0, 2)
		producer, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.TransactionalID(b.name("open")))
		require.NoError(t, err)
		defer producer.Close()
		require.NoError(t, producer.BeginTransaction())
		require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("open")}).FirstErr())
		b.fill(topic, 1, 2, 4)
		all := b.bounds(topic, time.Time{}, time.Time{})
		require.Equal(t, kafka.Ranges{topic: {0: {From: 0, To: 2}}}, all)
		got, err := b.scan(all, nil)
		require.NoError(t, err)
		require.Equal(t, map[int32][]string{0: {"0", "1"}}, got)
		require.NoError(t, producer.EndTransaction(t.Context(), kgo.TryAbort))
	})
}

func TestScanStops(t *testing.T) {
	eachKafka(t, func(t *testing.T, b *broker) {
		topic := b.topic("in", 2)
		b.fill(topic, 2, 0, 20)
		all := b.bounds(topic, time.Time{}, time.Time{})
		count := 0
		_, err := b.scan(all, func(*kgo.Record) error {
			if count++; count == 3 {
				return kafka.ErrStopScan
			}
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, 3, count)

		got, err := b.scan(all, func(*kgo.Record) error { return kafka.ErrStopPartition })
		require.NoError(t, err)
		require.Equal(t, map[int32][]string{0: {"0"}, 1: {"1"}}, got)

		refused := errors.New("refused")
		_, err = b.scan(kafka.Ranges{topic: {1: {From: 4, To: 9}}}, func(*kgo.Record) error { return refused })
		require.ErrorIs(t, err, refused)
		require.ErrorContains(t, err, topic+" partition 1 offset 4")

		ctx, cancel := context.WithCancel(t.Context())
		err = kafka.Scan(ctx, []kgo.Opt{kgo.SeedBrokers(b.addresses...)}, kafka.Ranges{topic: {0: {From: 5, To: 99}}},
			func(*kgo.Record) error { cancel(); return nil })
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, topic+" partition 0")

		_, err = b.scan(kafka.Ranges{b.name("none"): {0: {From: 0, To: 1}}}, nil)
		require.ErrorContains(t, err, "none")
	})
}

func TestBoundsByTime(t *testing.T) {
	eachKafka(t, func(t *testing.T, b *broker) {
		topic := b.topic("in", 2)
		begin := time.Now().Truncate(time.Second).Add(-time.Hour)
		for i := range 6 {
			require.NoError(t, b.client.ProduceSync(t.Context(), &kgo.Record{
				Topic: topic, Value: []byte(strconv.Itoa(i)), Timestamp: begin.Add(time.Duration(i) * time.Minute),
			}).FirstErr())
		}
		for name, test := range map[string]struct {
			since, until time.Time
			want         kafka.Range
		}{
			"both":            {begin.Add(time.Minute), begin.Add(3 * time.Minute), kafka.Range{From: 1, To: 3}},
			"between records": {begin.Add(90 * time.Second), time.Time{}, kafka.Range{From: 2, To: 6}},
			"from the start":  {time.Time{}, begin.Add(2 * time.Minute), kafka.Range{From: 0, To: 2}},
			"after all":       {begin.Add(30 * time.Minute), time.Time{}, kafka.Range{From: 6, To: 6}},
			"before all":      {time.Time{}, begin.Add(-time.Minute), kafka.Range{From: 0, To: 0}},
			"turned around":   {begin.Add(4 * time.Minute), begin.Add(time.Minute), kafka.Range{From: 1, To: 1}},
			"past all":        {begin, begin.Add(30 * time.Minute), kafka.Range{From: 0, To: 6}},
		} {
			bounds := b.bounds(topic, test.since, test.until)
			require.Equal(t, test.want, bounds[topic][0], name)
			require.Contains(t, bounds[topic], int32(1), name)
			require.Zero(t, bounds[topic][1].To-bounds[topic][1].From, name)
		}
		_, err := kafka.Bounds(t.Context(), b.admin, b.name("none"), time.Time{}, time.Time{})
		require.ErrorContains(t, err, "none")
	})
}

// Only waiting for records is waiting: a reader takes its time with each.
func TestScanIsPatientWithItsReader(t *testing.T) {
	kafka.SetScanPatience(t, 2*time.Second)
	b := newBroker(t, servers.Kafka(t))
	topic := b.topic("in", 1)
	b.fill(topic, 1, 0, 1)
	got, err := b.scan(kafka.Ranges{topic: {0: {From: 0, To: 2}}}, func(*kgo.Record) error {
		select {
		case <-time.After(2100 * time.Millisecond):
		case <-t.Context().Done():
		}
		b.fill(topic, 1, 1, 2)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, map[int32][]string{0: values(0, 2, 1)}, got)
}
