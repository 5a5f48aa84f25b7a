package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

func eachKafka(t *testing.T, test func(t *testing.T, b *bench)) {
	servers.EachKafka(t, func(t *testing.T, brokers []string) {
		test(t, newBench(t, brokers, servers.ClickHouse(t), 3))
	})
}

func kfake(t *testing.T, partitions int32) *bench {
	return newBench(t, servers.EmbeddedKafka(t, "").Addresses(), servers.ClickHouse(t), partitions)
}

func TestEveryRowOnce(t *testing.T) {
	eachKafka(t, func(t *testing.T, b *bench) {
		for partition := range int32(3) {
			b.produce(partition, 1000)
		}
		r := b.start(nil)
		b.wantAll()
		b.produce(1, 7) // closes by age
		b.wantAll()
		require.NoError(t, r.stop())
		r = b.start(nil)
		b.produce(2, 500)
		b.wantAll()
		require.NoError(t, r.stop())
	})
}

func TestCrashBetweenSteps(t *testing.T) {
	for _, step := range []Step{StepChosen, StepIntended, StepInserted, StepCommitted} {
		for _, nth := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s %d", step, nth), func(t *testing.T) {
				b := kfake(t, 2)
				b.months = 14
				b.produce(0, 600)
				b.produce(1, 300)
				hook, fired := crashAt(step, nth)
				err := b.start(hook).wait()
				require.ErrorIs(t, err, errAbandoned)
				require.True(t, fired())
				// Other limits: the open range must be read as it was intended.
				b.config.BatchRows = 37
				r := b.start(nil)
				b.wantAll()
				require.NoError(t, r.stop())
			})
		}
	}
}

func TestCrashOnApacheKafkaToo(t *testing.T) {
	eachKafka(t, func(t *testing.T, b *bench) {
		b.produce(0, 500)
		for _, step := range []Step{StepIntended, StepInserted} {
			hook, _ := crashAt(step, 2)
			require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
		}
		r := b.start(nil)
		b.wantAll()
		require.NoError(t, r.stop())
	})
}

func TestCrashDuringRecovery(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 100)
	hook, _ := crashAt(StepIntended, 1)
	require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
	for _, step := range []Step{StepLookedUp, StepInserted} {
		hook, fired := crashAt(step, 1)
		require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
		require.True(t, fired())
	}
	r := b.start(nil)
	b.wantAll()
	require.NoError(t, r.stop())
}

// The server keeps the token and loses the rows: a retry is dropped, and only
// looking finds it out.
func TestTokenWithoutRows(t *testing.T) {
	for _, months := range []int{0, 14} {
		b := kfake(t, 1)
		b.months = months
		b.produce(0, 100)
		hook, _ := crashAt(StepInserted, 1)
		require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
		b.wantTable()
		// A mutation takes rows away and leaves the tokens in the log.
		b.exec("SYSTEM START MERGES " + b.table())
		b.exec("ALTER TABLE " + b.table() + " DELETE WHERE toYYYYMM(receivedAt) IN (202605, 202403, 202411) SETTINGS mutations_sync = 2")
		b.exec("SYSTEM STOP MERGES " + b.table())
		hook, fired := crashAt(StepReattempt, 1)
		require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
		require.True(t, fired())
		r := b.start(nil)
		b.wantAll()
		require.NoError(t, r.stop())
	}
}

// faulty is a table whose inserts fail in a chosen way.
type faulty struct {
	Table
	insert func(ctx context.Context, token string, rows []*kgo.Record) (clickhouse.Inserted, error)
}

func (f *faulty) Insert(ctx context.Context, token string, rows []*kgo.Record) (clickhouse.Inserted, error) {
	return f.insert(ctx, token, rows)
}

func TestUnknownOutcome(t *testing.T) {
	for name, landed := range map[string]bool{"landed": true, "did not land": false} {
		t.Run(name, func(t *testing.T) {
			b := kfake(t, 1)
			b.produce(0, 500)
			var faults atomic.Int32
			b.wrap = func(inner Table) Table {
				return &faulty{inner, func(ctx context.Context, token string, rows []*kgo.Record) (clickhouse.Inserted, error) {
					if n := faults.Add(1); n%2 == 0 {
						return inner.Insert(ctx, token, rows)
					}
					if landed {
						_, err := inner.Insert(ctx, token, rows)
						require.NoError(t, err)
					}
					return clickhouse.Inserted{}, &clickhouse.InsertError{Sent: true, Err: errors.New("the reply was lost")}
				}}
			}
			r := b.start(nil)
			b.wantAll()
			require.NoError(t, r.stop())
			require.GreaterOrEqual(t, faults.Load(), int32(5))
		})
	}
}

func TestLateInsertOfADeadOwnerIsDropped(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 100)
	var late func() error
	b.wrap = func(inner Table) Table {
		return &faulty{inner, func(_ context.Context, token string, rows []*kgo.Record) (clickhouse.Inserted, error) {
			own, err := Events(b.clickhouse(), nil)
			require.NoError(t, err)
			require.NoError(t, own.Prepare(t.Context()))
			late = func() error {
				defer func() { _ = own.Close() }()
				_, err := own.Insert(context.Background(), token, rows)
				return err
			}
			return clickhouse.Inserted{}, errAbandoned
		}}
	}
	require.ErrorIs(t, b.start(nil).wait(), errAbandoned)
	b.wrap = nil
	r := b.start(nil)
	b.wantAll()
	require.NotNil(t, late)
	require.NoError(t, late())
	b.wantTable()
	require.NoError(t, r.stop())
}

func TestRebalances(t *testing.T) {
	eachKafka(t, func(t *testing.T, b *bench) {
		b.config.BatchRows = 50
		first := b.start(nil)
		for round := range 3 {
			for partition := range int32(3) {
				b.produce(partition, 400)
			}
			other := b.start(nil)
			b.produce(int32(round), 400)
			require.Eventually(t, func() bool { return len(other.service.workerNumbers()) > 0 }, patience, 20*time.Millisecond)
			b.produce(int32(round), 400)
			if round == 1 {
				require.NoError(t, first.stop())
				first, other = other, nil
			}
			if other != nil {
				require.NoError(t, other.stop())
			}
		}
		b.wantAll()
		require.NoError(t, first.stop())
	})
}

func TestTableChangedUnderneathAndMended(t *testing.T) {
	changes := map[string][2]string{
		"column dropped": {"DROP COLUMN stream", "ADD COLUMN stream String CODEC(ZSTD(1)) AFTER date"},
		"type changed":   {"MODIFY COLUMN verb LowCardinality(String)", "MODIFY COLUMN verb String"},
		"constraint":     {"ADD CONSTRAINT no CHECK verb != 'get'", "DROP CONSTRAINT no"},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			b := kfake(t, 1)
			b.exec("SYSTEM START MERGES " + b.table()) // changing a type waits for them
			b.produce(0, 200)
			r := b.start(nil)
			b.wantAll()
			// A column's change is a mutation, which waits while merges are stopped.
			b.exec("SYSTEM START MERGES " + b.table())
			b.exec("ALTER TABLE " + b.table() + " " + change[0])
			b.produce(0, 200)
			r.wantIll(r.component(0), "[200,300)")
			b.exec("ALTER TABLE " + b.table() + " " + change[1])
			b.wantAll()
			require.Eventually(t, func() bool { return r.health.get(r.component(0)) == nil }, patience, 10*time.Millisecond)
			require.NoError(t, r.stop())
		})
	}
}

func TestUnfitTableIsRefusedAtTheStart(t *testing.T) {
	b := kfake(t, 1)
	b.exec("ALTER TABLE " + b.table() + " MODIFY SETTING non_replicated_deduplication_window = 0")
	b.exec("ALTER TABLE " + b.table() + " DROP COLUMN stream")
	err := b.start(nil).wait()
	var unfit *clickhouse.UnfitError
	require.ErrorAs(t, err, &unfit)
	require.Len(t, unfit.Problems, 2)
}

func TestSameRowTwiceInABatch(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 50)
	b.produced = 0
	b.produce(0, 50)
	b.config.BatchRows = 100
	b.config.BatchAge = time.Hour
	r := b.start(nil)
	b.wantAll()
	require.NoError(t, r.stop())
}

func TestExpiredRowsDoNotHoldUpRecovery(t *testing.T) {
	b := kfake(t, 1)
	var records []*kgo.Record
	for number := range 20 {
		row := b.row(number + 1)
		row.SourceTTL, row.ReceivedAt = 1, 1_000_000_000
		records = append(records, &kgo.Record{Topic: b.names.Normalized, Value: topics.AppendNormalized(nil, &row)})
	}
	require.NoError(t, b.client.ProduceSync(t.Context(), records...).FirstErr())
	hook, _ := crashAt(StepIntended, 1)
	require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
	r := b.start(nil)
	b.wantCommitted()
	require.NoError(t, r.stop())
}

func TestMalformedRecordStopsItsPartitionOnly(t *testing.T) {
	b := kfake(t, 2)
	b.produce(0, 100)
	b.produce(0, 30)
	bad := &kgo.Record{Topic: b.names.Normalized, Partition: 0, Value: []byte("not an event")}
	require.NoError(t, b.client.ProduceSync(t.Context(), bad).FirstErr())
	b.produce(1, 100)
	r := b.start(nil)
	r.wantIll(r.component(0), "at offset 130")
	require.Eventually(t, func() bool {
		offsets, err := b.admin.FetchOffsets(t.Context(), b.group)
		require.NoError(t, err)
		zero, _ := offsets.Lookup(b.names.Normalized, 0)
		one, _ := offsets.Lookup(b.names.Normalized, 1)
		return zero.At == 130 && one.At == 100
	}, patience, 20*time.Millisecond)
	b.wantTable()
	require.NoError(t, r.stop())
}

func TestMemoryIsBoundedWhileTheTableIsAway(t *testing.T) {
	b := kfake(t, 3)
	b.config.Memory = 200 << 10
	b.config.BatchSize = 64 << 10
	var away atomic.Bool
	away.Store(true)
	var most atomic.Int64
	b.wrap = func(inner Table) Table {
		return &faulty{inner, func(ctx context.Context, token string, rows []*kgo.Record) (clickhouse.Inserted, error) {
			if away.Load() {
				return clickhouse.Inserted{}, &clickhouse.InsertError{Err: errors.New("connection refused")}
			}
			return inner.Insert(ctx, token, rows)
		}}
	}
	for partition := range int32(3) {
		for range 60 {
			b.produce(partition, 200) // 13 MB in all, as it is counted
		}
	}
	r := b.start(nil)
	r.wantIll("sink clickhouse", "connection refused")
	quiet := 0
	require.Eventually(t, func() bool {
		held := int64(r.service.bufferedBytes())
		if held == most.Load() && held > 0 {
			quiet++
		} else {
			quiet = 0
		}
		most.Store(max(most.Load(), held))
		return quiet > 50
	}, patience, 10*time.Millisecond)
	require.Less(t, most.Load(), int64(3<<20), "held although there was no room")
	away.Store(false)
	b.wantAll()
	require.NoError(t, r.stop())
}

func TestStopWhileTheTableIsAwayIsAnError(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 10)
	b.wrap = func(inner Table) Table {
		return &faulty{inner, func(context.Context, string, []*kgo.Record) (clickhouse.Inserted, error) {
			return clickhouse.Inserted{}, &clickhouse.InsertError{Err: errors.New("connection refused")}
		}}
	}
	r := b.start(nil)
	r.wantIll("sink clickhouse", "connection refused")
	var open *OpenError
	require.ErrorAs(t, r.stop(), &open)
	require.Equal(t, []int32{0}, open.Partitions)
	b.wrap = nil
	r = b.start(nil)
	b.wantAll()
	require.NoError(t, r.stop())
}
