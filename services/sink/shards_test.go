package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/tests/servers"
)

// twoShards is a bench with an engine for each of two shards.
func twoShards(t *testing.T, partitions int32) *bench {
	t.Helper()
	b := newBench(t, servers.EmbeddedKafka(t, "").Addresses(), servers.OwnClickHouse(t), partitions)
	other := servers.OwnClickHouse(t)
	conn := other.Conn(t)
	require.NoError(t, conn.Exec(t.Context(), "CREATE DATABASE "+clickhouse.Quote(b.server.Database)))
	require.NoError(t, conn.Exec(t.Context(), clickhouse.TableDDL(b.clickhouse())))
	require.NoError(t, conn.Exec(t.Context(), "SYSTEM STOP MERGES "+b.table()))
	b.shards = []*servers.ClickHouseServer{b.server, other}
	return b
}

// idsOn are the row ids in one shard, with how many parts hold each.
func (b *bench) idsOn(shard int) map[string]uint64 {
	b.t.Helper()
	return servers.RowIDs(b.t, b.shards[shard].Conn(b.t), b.table())
}

func (b *bench) committed(partition int32) int64 {
	b.t.Helper()
	offsets, err := b.admin.FetchOffsets(b.t.Context(), b.group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return -1
	}
	require.NoError(b.t, err)
	at, found := offsets.Lookup(b.names.Normalized, partition)
	if !found {
		return -1
	}
	return at.At
}

func TestShardAwayHoldsBackItsPartitionsOnly(t *testing.T) {
	b := twoShards(t, 4)
	// Together the partitions of the shard that is away could hold all of it.
	b.config.Memory, b.config.BatchSize = 256<<10, 64<<10
	want := []map[string]uint64{{}, {}}
	sizes := make([]int64, 4)
	produce := func(partitions []int32, count int) {
		for _, partition := range partitions {
			for number := b.produced + 1; number <= b.produced+count; number++ {
				want[partition%2][fmt.Sprintf("%032x-%012d", 1, number)] = 1
			}
			b.produce(partition, count)
			sizes[partition] += int64(count)
		}
	}
	wantPositions := func(partitions ...int32) {
		t.Helper()
		for _, partition := range partitions {
			require.Eventually(t, func() bool { return b.committed(partition) == sizes[partition] }, patience, 20*time.Millisecond,
				"partition %d is not done", partition)
		}
	}
	wantShard := func(shard int) {
		t.Helper()
		got := b.idsOn(shard)
		require.True(t, maps.Equal(want[shard], got), "shard %d: want %d rows, each once, and has %d", shard, len(want[shard]), len(got))
	}
	all := []int32{0, 1, 2, 3}
	produce(all, 300)
	r := b.start(nil)
	wantPositions(all...)
	wantShard(0)
	wantShard(1)

	// Away while it is written to.
	b.shards[1].Down(t)
	before := []int64{b.committed(1), b.committed(3)}
	produce(all, 2000)
	wantPositions(0, 2)
	wantShard(0)
	r.wantIll("sink clickhouse shard 1", "")
	require.NoError(t, r.health.get("sink clickhouse shard 0"))
	require.Equal(t, before, []int64{b.committed(1), b.committed(3)})
	var open *OpenError
	require.ErrorAs(t, r.stop(), &open)

	// Away at the start.
	r = b.start(nil)
	produce(all, 500)
	wantPositions(0, 2)
	wantShard(0)
	r.wantIll("sink clickhouse shard 1", "")
	require.Equal(t, before, []int64{b.committed(1), b.committed(3)})
	require.Zero(t, r.service.shards[1].flow.Load().bytes())

	b.shards[1].Up(t)
	require.NoError(t, b.shards[1].Conn(t).Exec(t.Context(), "SYSTEM STOP MERGES "+b.table()))
	wantPositions(all...)
	wantShard(0)
	wantShard(1)
	require.Eventually(t, func() bool { return r.health.get("sink clickhouse shard 1") == nil }, patience, 20*time.Millisecond)
	require.NoError(t, r.stop())
}

// late is a table whose server is away, then there with a table that is unfit,
// then mended.
type late struct {
	Table
	back atomic.Bool
	mend chan struct{}
}

func (l *late) Prepare(ctx context.Context) error {
	if !l.back.Load() {
		return errors.New("connection refused")
	}
	select {
	case <-l.mend:
		return l.Table.Prepare(ctx)
	default:
		return &clickhouse.UnfitError{Table: "t", Problems: []clickhouse.Problem{{Subject: "column verb", Found: "missing", Mend: "add it"}}}
	}
}

// A shard whose table turns out unfit when it comes back does not end what the
// others do; at the start it does.
func TestShardThatComesBackUnfit(t *testing.T) {
	b := kfake(t, 2)
	b.shards = []*servers.ClickHouseServer{b.server, b.server}
	b.commitRaw(0, 0, "") // no new group, which waits for all
	b.commitRaw(1, 0, "")
	b.produce(0, 100)
	b.produce(1, 100)
	second := &late{mend: make(chan struct{})}
	var opened atomic.Int32
	b.wrap = func(inner Table) Table {
		if opened.Add(1) == 2 {
			second.Table = inner
			return second
		}
		return inner
	}
	r := b.start(nil)
	require.Eventually(t, func() bool { return b.committed(0) == 100 }, patience, 20*time.Millisecond)
	second.back.Store(true)
	r.wantIll("sink clickhouse shard 1", "column verb")
	b.produce(0, 100)
	require.Eventually(t, func() bool { return b.committed(0) == 200 }, patience, 20*time.Millisecond)
	require.Zero(t, b.committed(1))
	require.NoError(t, r.health.get("sink clickhouse shard 0"))
	close(second.mend)
	b.wantAll()
	require.NoError(t, r.stop())

	opened.Store(0)
	second = &late{mend: make(chan struct{})}
	second.back.Store(true)
	var unfit *clickhouse.UnfitError
	require.ErrorAs(t, b.start(nil).wait(), &unfit)
}

// With other shards than before the rows of an open intent would be looked for
// in the wrong place.
func TestOpenIntentOfAnotherShard(t *testing.T) {
	b := kfake(t, 2)
	b.shards = []*servers.ClickHouseServer{b.server, b.server}
	b.produce(1, 100)
	hook, _ := crashAt(StepInserted, 1)
	require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
	b.shards = b.shards[:1]
	b.produce(0, 100)
	r := b.start(nil)
	r.wantIll(r.component(1), "put clickhouse.shards")
	r.wantIll(r.component(1), "1/"+b.server.Database)
	require.Eventually(t, func() bool { return b.committed(0) == 100 }, patience, 20*time.Millisecond)
	require.Zero(t, b.committed(1))
	require.NoError(t, r.stop())
	b.shards = append(b.shards, b.server)
	r = b.start(nil)
	b.wantAll()
	require.NoError(t, r.stop())
}

// Whether a group without offsets may begin at the beginning is known when all
// shards have been asked, or one has rows.
func TestNewGroupNeedsToKnowAllShards(t *testing.T) {
	b := kfake(t, 2)
	away := *b.server
	away.Address = "127.0.0.1:1"
	b.shards = []*servers.ClickHouseServer{b.server, &away}
	b.produce(0, 100)
	r := b.start(nil)
	r.wantIll("sink kafka", "shard 1 is away")
	require.NoError(t, r.stop())
	require.Equal(t, int64(-1), b.committed(0))
	// Another sink has begun: one row is enough to know.
	b.commitRaw(1, 0, "")
	b.exec("INSERT INTO " + b.table() + " (id) VALUES ('a')")
	r = b.start(nil)
	require.Eventually(t, func() bool { return b.committed(0) == 100 }, patience, 20*time.Millisecond)
	require.NoError(t, r.stop())
}
