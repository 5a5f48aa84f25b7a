package sink

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/tests/servers"
)

// recoveries are ways to leave a batch of 100 rows over 5 months behind that
// the next owner finds open.
var recoveries = map[string]func(t *testing.T, b *bench){
	"intended":  func(_ *testing.T, b *bench) { b.crashed(StepIntended) },
	"inserted":  func(_ *testing.T, b *bench) { b.crashed(StepInserted) },
	"committed": func(t *testing.T, b *bench) { crash(t, b, StepCommitted) },
	// The server has it, and who sent it never hears of it.
	"the reply is lost": func(t *testing.T, b *bench) {
		b.failing(t, func(ctx context.Context, inner Table, token string, rows []*kgo.Record) {
			_, err := inner.Insert(ctx, token, rows)
			require.NoError(t, err)
		})
	},
	"landed in some partitions of the table": func(t *testing.T, b *bench) {
		b.failing(t, func(ctx context.Context, inner Table, token string, rows []*kgo.Record) {
			var some []*kgo.Record
			for number, row := range rows { // of row number+1
				if (number+1)%b.months < 2 {
					some = append(some, row)
				}
			}
			require.Less(t, len(some), len(rows))
			_, err := inner.Insert(ctx, token, some)
			require.NoError(t, err)
		})
	},
	// The table forgets the tokens of what is taken away like this.
	"a part is dropped": func(_ *testing.T, b *bench) {
		b.crashed(StepInserted)
		b.exec("ALTER TABLE " + b.table() + " DROP PARTITION 202402")
	},
	"a part is detached": func(_ *testing.T, b *bench) {
		b.crashed(StepInserted)
		b.exec("ALTER TABLE " + b.table() + " DETACH PARTITION 202403")
	},
	// And keeps them of these.
	"rows go, the token stays": func(_ *testing.T, b *bench) {
		b.crashed(StepInserted)
		b.delete("toYYYYMM(receivedAt) IN (202402, 202405)")
	},
	"all rows go, the token stays": func(_ *testing.T, b *bench) {
		b.crashed(StepInserted)
		b.delete("1")
	},
	"rows of the next attempt go, too": func(t *testing.T, b *bench) {
		b.crashed(StepInserted)
		b.delete("1")
		crash(t, b, StepReattempt)
		b.delete("1")
	},
}

func crash(t *testing.T, b *bench, step Step) {
	t.Helper()
	hook, fired := crashAt(step, 1)
	require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
	require.True(t, fired())
}

// delete takes rows away by a mutation, which leaves the tokens in the log.
func (b *bench) delete(condition string) {
	b.t.Helper()
	b.exec("SYSTEM START MERGES " + b.table())
	b.exec("ALTER TABLE " + b.table() + " DELETE WHERE " + condition + " SETTINGS mutations_sync = 2")
	b.exec("SYSTEM STOP MERGES " + b.table())
}

// failing runs a sink whose first insert does only what is given, and which
// then dies.
func (b *bench) failing(t *testing.T, insert func(ctx context.Context, inner Table, token string, rows []*kgo.Record)) {
	t.Helper()
	b.wrap = func(inner Table) Table {
		return &faulty{inner, func(ctx context.Context, token string, rows []*kgo.Record) (clickhouse.Inserted, error) {
			insert(ctx, inner, token, rows)
			return clickhouse.Inserted{}, errAbandoned
		}}
	}
	require.ErrorIs(t, b.start(nil).wait(), errAbandoned)
	b.wrap = nil
}

func TestRecovery(t *testing.T) {
	brokers := servers.EmbeddedKafka(t, "").Addresses()
	for name, leave := range recoveries {
		t.Run(name, func(t *testing.T) { recovers(t, newBench(t, brokers, servers.ClickHouse(t), 1), leave) })
	}
}

func TestRecoveryOfReplicatedTables(t *testing.T) {
	server := servers.ReplicatedClickHouse(t)
	brokers := servers.EmbeddedKafka(t, "").Addresses()
	for name, leave := range recoveries {
		t.Run(name, func(t *testing.T) { recovers(t, newBenchOf(t, brokers, server, 1, true), leave) })
	}
}

// recovers has the next owner, with other limits, settle what was left behind;
// then the first attempt arrives once more, late.
func recovers(t *testing.T, b *bench, leave func(*testing.T, *bench)) {
	t.Helper()
	b.months = 5
	b.produce(0, 100)
	var late func()
	options := b.adjust
	b.adjust = func(o *Options) { o.Config.BatchRows = 100 }
	b.wrap = nil
	remember := b.remembering(t, &late)
	leave(t, b)
	b.produce(0, 50)
	b.adjust, b.config.BatchRows = options, 37
	if b.position() == 0 {
		b.wrap = remember
	}
	r := b.start(nil)
	b.wantAll()
	require.NoError(t, r.stop())
	if late != nil {
		late()
		b.wantTable()
	}
}

// remembering keeps the first insert that passes, to be sent again.
func (b *bench) remembering(t *testing.T, late *func()) func(Table) Table {
	t.Helper()
	return func(inner Table) Table {
		return &faulty{inner, func(ctx context.Context, token string, rows []*kgo.Record) (clickhouse.Inserted, error) {
			if *late == nil {
				*late = func() {
					zombie, err := Events(b.clickhouse(), nil)
					require.NoError(t, err)
					defer zombie.Close()
					require.NoError(t, zombie.Prepare(context.Background()))
					_, err = zombie.Insert(context.Background(), token, rows)
					require.NoError(t, err)
				}
			}
			return inner.Insert(ctx, token, rows)
		}}
	}
}

// A zombie's insert lands between the look and the insert of who recovers.
func TestZombieBetweenLookAndInsert(t *testing.T) {
	b := kfake(t, 1)
	b.months = 5
	b.produce(0, 100)
	b.crashed(StepIntended)
	var landed atomic.Bool
	b.wrap = func(inner Table) Table {
		return &faulty{inner, func(ctx context.Context, token string, rows []*kgo.Record) (clickhouse.Inserted, error) {
			if landed.CompareAndSwap(false, true) {
				_, err := inner.Insert(ctx, token, rows)
				require.NoError(t, err)
			}
			return inner.Insert(ctx, token, rows)
		}}
	}
	r := b.start(nil)
	b.wantAll()
	require.NoError(t, r.stop())
	require.True(t, landed.Load())
}

// slow is a table with an insert under way that has noted the token and whose
// rows are not to be seen before it ends.
type slow struct {
	Table
	zombie func()
	asked  atomic.Int32
}

func (s *slow) Insert(context.Context, string, []*kgo.Record) (clickhouse.Inserted, error) {
	return clickhouse.Inserted{Duplicates: 1}, nil
}

func (s *slow) Running(context.Context, string) (bool, error) {
	switch s.asked.Add(1) {
	case 1, 2:
		return true, nil
	case 3:
		s.zombie()
		return true, nil
	}
	return false, nil
}

// "It is a duplicate" and "it is not there" are both true while a zombie's
// insert is between its token and its part. Then nothing may go in under a
// further token.
func TestZombieUnderWayIsWaitedFor(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 100)
	var late func()
	b.wrap = b.remembering(t, &late)
	hook, _ := crashAt(StepInserted, 1)
	require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
	b.exec("TRUNCATE TABLE " + b.table())
	var made *slow
	b.wrap = func(inner Table) Table {
		made = &slow{Table: inner, zombie: late}
		return made
	}
	hook, reattempted := crashAt(StepReattempt, 1)
	r := b.start(hook)
	b.wantAll()
	require.NoError(t, r.stop())
	require.False(t, reattempted())
	require.GreaterOrEqual(t, made.asked.Load(), int32(3))
}

// The server dies, keeps the token, has lost the part: what a crash between the
// two leaves behind. It is back between attempt and retry.
func TestServerKilledBetweenAttemptAndRetry(t *testing.T) {
	b := newBench(t, servers.EmbeddedKafka(t, "").Addresses(), servers.OwnClickHouse(t), 1)
	b.months = 5
	b.produce(0, 100)
	b.crashed(StepInserted)
	rows, err := b.conn.Query(t.Context(), "SELECT path FROM system.parts WHERE active AND partition IN ('202402', '202404') AND table = '"+b.clickhouse().Table+"'")
	require.NoError(t, err)
	var paths []string
	for rows.Next() {
		var path string
		require.NoError(t, rows.Scan(&path))
		paths = append(paths, path)
	}
	require.NoError(t, rows.Err())
	require.Len(t, paths, 2)
	b.server.Down(t)
	for _, path := range paths {
		require.NoError(t, os.RemoveAll(path))
	}
	r := b.start(nil)
	r.wantIll("sink clickhouse", "")
	b.server.Up(t)
	b.wantCommitted()
	require.NoError(t, r.stop())
	b.wantTable()
	require.Positive(t, valueOf(t, r.service.metrics.reattempts), "the token was not in the log any more")
}

// A partition moves away while its worker tries in vain, and comes back.
func TestPartitionComesBackToARetryingOwner(t *testing.T) {
	b := kfake(t, 2)
	b.produce(0, 300)
	b.produce(1, 300)
	var away atomic.Bool
	away.Store(true)
	var tries atomic.Int32
	b.wrap = func(inner Table) Table {
		return &faulty{inner, func(ctx context.Context, token string, rows []*kgo.Record) (clickhouse.Inserted, error) {
			tries.Add(1)
			if away.Load() {
				return clickhouse.Inserted{}, &clickhouse.InsertError{Sent: true, Err: errors.New("the reply was lost")}
			}
			return inner.Insert(ctx, token, rows)
		}}
	}
	first := b.start(nil)
	require.Eventually(t, func() bool { return tries.Load() > 3 }, patience, 10*time.Millisecond)
	b.wrap = nil
	second := b.start(nil)
	var moved int32
	require.Eventually(t, func() bool {
		for number := range second.service.workerNumbers() {
			moved = number
			return b.committed(number) == 300
		}
		return false
	}, patience, 10*time.Millisecond)
	b.produce(moved, 200)
	require.Eventually(t, func() bool { return b.committed(moved) >= 400 }, patience, 10*time.Millisecond)
	require.NoError(t, second.stop())
	require.Eventually(t, func() bool { return first.service.workerNumbers()[moved] }, patience, 10*time.Millisecond)
	b.produce(moved, 100)
	away.Store(false)
	b.wantAll()
	require.NoError(t, first.stop())
}
