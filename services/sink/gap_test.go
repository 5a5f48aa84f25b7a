package sink

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditstream/auditstream/pkg/clickhouse"
)

// valueOf is the counter's value.
func valueOf(t *testing.T, counter prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	require.NoError(t, counter.Write(&m))
	return m.GetCounter().GetValue()
}

// deleteTo removes the partition's records below offset, as retention does.
func (b *bench) deleteTo(partition int32, offset int64) {
	b.t.Helper()
	offsets := make(kadm.Offsets)
	offsets.AddOffset(b.names.Normalized, partition, offset, -1)
	_, err := b.admin.DeleteRecords(b.t.Context(), offsets)
	require.NoError(b.t, err)
}

// commitRaw commits as somebody who is not in the group.
func (b *bench) commitRaw(partition int32, offset int64, text string) {
	b.t.Helper()
	request := kmsg.NewPtrOffsetCommitRequest()
	request.Group = b.group
	request.Generation = -1
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic = b.names.Normalized
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset, p.Metadata = partition, offset, &text
	topic.Partitions = append(topic.Partitions, p)
	request.Topics = append(request.Topics, topic)
	// By name: the versions from 10 on go by topic id.
	client, err := kgo.NewClient(kgo.SeedBrokers(b.brokers...))
	require.NoError(b.t, err)
	defer client.Close()
	details, err := b.admin.ListTopics(b.t.Context(), b.names.Normalized)
	require.NoError(b.t, err)
	request.Topics[0].TopicID = details[b.names.Normalized].ID
	_, err = request.RequestWith(b.t.Context(), client)
	require.NoError(b.t, err)
}

// position is what is committed for partition 0.
func (b *bench) position() int64 {
	b.t.Helper()
	offsets, err := b.admin.FetchOffsets(b.t.Context(), b.group)
	require.NoError(b.t, err)
	at, found := offsets.Lookup(b.names.Normalized, 0)
	require.True(b.t, found)
	return at.At
}

// crashed leaves an intent [0,100) open, with its rows in the table or not.
func (b *bench) crashed(step Step) {
	b.t.Helper()
	hook, fired := crashAt(step, 1)
	require.ErrorIs(b.t, b.start(hook).wait(), errAbandoned)
	require.True(b.t, fired())
	require.Equal(b.t, int64(0), b.position())
}

func TestRangeShrunkByRetention(t *testing.T) {
	eachKafka(t, func(t *testing.T, b *bench) {
		b.produce(0, 300)
		b.crashed(StepInserted)
		b.deleteTo(0, 40)
		r := b.start(nil)
		r.wantIll(r.component(0), "[0,40)")
		require.NoError(t, r.stop())
		require.Equal(t, int64(0), b.position())

		b.accept = true
		r = b.start(nil)
		b.wantAll() // the rows of 0..39 were in already
		require.Positive(t, valueOf(t, r.service.metrics.acceptedGaps))
		require.NoError(t, r.stop())
	})
}

func TestWholeRangeGone(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 300)
	b.crashed(StepInserted)
	b.deleteTo(0, 150)
	b.accept = true
	r := b.start(nil)
	b.wantCommitted()
	require.Equal(t, float64(1), valueOf(t, r.service.metrics.acceptedGaps))
	require.Equal(t, float64(150), valueOf(t, r.service.metrics.acceptedRecords))
	require.NoError(t, r.stop())
	var rows uint64
	require.NoError(t, b.conn.QueryRow(t.Context(), "SELECT count() FROM "+b.table()).Scan(&rows))
	require.Equal(t, uint64(250), rows)
}

func TestTopicMadeAnewWithTheSameOffsets(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 200)
	r := b.start(nil)
	b.wantAll()
	require.NoError(t, r.stop())
	_, err := b.admin.DeleteTopic(t.Context(), b.names.Normalized)
	require.NoError(t, err)
	_, err = b.admin.CreateTopic(t.Context(), 1, 1, nil, b.names.Normalized)
	require.NoError(t, err)
	b.client.PurgeTopicsFromClient(b.names.Normalized)
	b.produce(0, 300)

	r = b.start(nil)
	r.wantIll(r.component(0), "")
	t.Log(r.health.get(r.component(0)))
	require.NoError(t, r.stop())
	b.accept = true
	r = b.start(nil)
	b.wantAll()
	require.NoError(t, r.stop())
}

func TestGroupWhoseOffsetsHaveExpired(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 200)
	r := b.start(nil)
	b.wantAll()
	require.NoError(t, r.stop())
	_, err := b.admin.DeleteGroup(t.Context(), b.group)
	require.NoError(t, err)
	r = b.start(nil)
	r.wantIll(r.component(0), "[0,200)")
	require.NoError(t, r.stop())
}

func TestOffsetPastTheEnd(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 10)
	b.commitRaw(0, 500, "")
	r := b.start(nil)
	r.wantIll(r.component(0), "500")
	require.NoError(t, r.stop())
}

func TestIntentOfANewerVersion(t *testing.T) {
	b := kfake(t, 2)
	b.produce(0, 10)
	b.commitRaw(0, 0, `auditstream/9 {"what":"ever"}`)
	r := b.start(nil)
	r.wantIll(r.component(0), "newer version")
	require.NoError(t, r.stop())
	require.Equal(t, int64(0), b.position())
}

func TestIntentForAnotherTable(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 100)
	in := intent{To: 100, Records: 100, Attempt: 1, Target: "0/elsewhere.events", At: 1}
	text, err := metadata{Intent: &in}.encode()
	require.NoError(t, err)
	b.commitRaw(0, 0, text)
	r := b.start(nil)
	r.wantIll(r.component(0), "0/elsewhere.events")
	require.NoError(t, r.stop())
}

func TestRangeThatReadsDifferently(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 200)
	in := intent{To: 100, Records: 100, Attempt: 1, Target: "0/" + b.server.Database + "." + b.clickhouse().Table, At: 1}
	text, err := metadata{Intent: &in}.encode()
	require.NoError(t, err)
	b.commitRaw(0, 0, text)
	r := b.start(nil)
	r.wantIll(r.component(0), "[0,100)")
	require.NoError(t, r.stop())
	b.accept = true
	r = b.start(nil)
	b.wantAll()
	require.NoError(t, r.stop())
}

// Views behind the table get each row once, although the retry after the lost
// reply sends the whole block again.
func TestViewGetsEachRowOnce(t *testing.T) {
	b := kfake(t, 1)
	b.months = 5
	view := clickhouse.Quote(b.server.Database) + "." + clickhouse.Quote(b.clickhouse().Table+"_view")
	target := clickhouse.Quote(b.server.Database) + "." + clickhouse.Quote(b.clickhouse().Table+"_target")
	b.exec("CREATE TABLE " + target + " (id String) ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 1000")
	b.exec("CREATE MATERIALIZED VIEW " + view + " TO " + target + " AS SELECT id FROM " + b.table())
	b.produce(0, 400)
	for _, step := range []Step{StepIntended, StepInserted, StepInserted} {
		hook, _ := crashAt(step, 2)
		require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
	}
	r := b.start(nil)
	b.wantAll()
	require.NoError(t, r.stop())
	var rows, ids uint64
	require.NoError(t, b.conn.QueryRow(t.Context(), "SELECT count(), uniqExact(id) FROM "+target).Scan(&rows, &ids))
	require.Equal(t, [2]uint64{400, 400}, [2]uint64{rows, ids})
}

// A partition that leaves while its insert is under way: the insert and its
// commit are finished, nothing is tried again, nothing of the old assignment
// commits afterwards.
func TestRevokedWorkerTriesNothingAgain(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 100)
	reached := make(chan struct{})
	attempts := 0
	b.wrap = func(inner Table) Table {
		return &faulty{inner, func(ctx context.Context, _ string, _ []*kgo.Record) (clickhouse.Inserted, error) {
			if attempts++; attempts == 1 {
				close(reached)
			}
			<-ctx.Done()
			return clickhouse.Inserted{}, &clickhouse.InsertError{Sent: true, Err: fmt.Errorf("insert: %w", ctx.Err())}
		}}
	}
	r := b.start(nil)
	<-reached
	w := r.service.workerOf(0)
	require.NotNil(t, w)
	r.service.takeAway([]int32{0}, 10*time.Millisecond)
	select {
	case <-w.done:
	default:
		require.Fail(t, "taken away, and the worker lives")
	}
	require.Equal(t, 1, attempts)
	require.Error(t, w.ctx.Err())
	require.Equal(t, int64(0), b.position())
	r.cancel()
	_ = r.wait()
	b.wrap = nil
	r = b.start(nil)
	b.wantAll()
	require.NoError(t, r.stop())
}
