package sink

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/clickhouse"
)

func (b *bench) awaited(hold string) []int32 {
	b.t.Helper()
	awaited, err := AwaitedByHold(b.t.Context(), b.client, b.group, b.names.Normalized, hold)
	require.NoError(b.t, err)
	return awaited
}

func (b *bench) hold(id string) {
	b.t.Helper()
	comment := ""
	if id != "" {
		comment = "auditstream hold " + id
	}
	b.exec("ALTER TABLE " + b.table() + " MODIFY COMMENT '" + comment + "'")
}

func (b *bench) rows() uint64 {
	b.t.Helper()
	var count uint64
	require.NoError(b.t, b.conn.QueryRow(b.t.Context(), "SELECT count() FROM "+b.table()+" SETTINGS final = 0").Scan(&count))
	return count
}

// A held table gets nothing: every partition says so, those with records and
// those without, and goes on when the hold is gone.
func TestHoldIsAcknowledgedAndLifted(t *testing.T) {
	b := kfake(t, 3)
	b.produce(0, 150)
	b.produce(1, 150)
	r := b.start(nil)
	b.wantAll()
	require.Equal(t, []int32{0, 1, 2}, b.awaited("one"))

	b.hold("one")
	require.Eventually(t, func() bool { return len(b.awaited("one")) == 0 }, patience, 20*time.Millisecond)
	r.wantIll("sink hold 0", "swap one")
	b.produce(0, 500)
	b.produce(2, 500)

	// A second instance takes partitions over, and looks before it intends.
	second := b.start(nil)
	second.wantIll("sink hold 0", "swap one")
	require.Eventually(t, func() bool { return len(b.awaited("one")) == 0 }, patience, 20*time.Millisecond)
	require.NoError(t, r.stop())
	require.Eventually(t, func() bool { return len(second.service.assigned()) == 3 }, patience, 20*time.Millisecond)
	require.Empty(t, b.awaited("one"))
	require.EqualValues(t, 300, b.rows())

	// Another hold is another one to acknowledge.
	b.hold("two")
	require.Eventually(t, func() bool { return len(b.awaited("two")) == 0 }, patience, 20*time.Millisecond)
	require.EqualValues(t, 300, b.rows())
	b.hold("")
	b.wantAll()
	require.NoError(t, second.health.get("sink hold 0"))
}

// What was intended before the hold is finished, and only then acknowledged.
func TestHoldWaitsForTheOpenIntent(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 100)
	hook, fired := crashAt(StepIntended, 1)
	require.ErrorIs(t, b.start(hook).wait(), errAbandoned)
	require.True(t, fired())
	b.hold("one")
	require.Equal(t, []int32{0}, b.awaited("one"), "the group is without members, and its intent is open")

	b.produce(0, 100)
	b.start(nil)
	require.Eventually(t, func() bool { return len(b.awaited("one")) == 0 }, patience, 20*time.Millisecond)
	require.EqualValues(t, 100, b.rows())
	b.hold("")
	b.wantAll()
}

// Exchanging the tables lifts the hold, and rows go into the other table.
func TestHoldEndsWithTheExchange(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 100)
	b.start(nil)
	b.wantAll()
	other := b.clickhouse()
	other.Table += "_other"
	b.exec(clickhouse.TableDDL(other))
	name := clickhouse.Quote(b.server.Database) + "." + clickhouse.Quote(other.Table)
	t.Cleanup(func() { _ = b.conn.Exec(context.Background(), "DROP TABLE IF EXISTS "+name) })
	b.hold("one")
	require.Eventually(t, func() bool { return len(b.awaited("one")) == 0 }, patience, 20*time.Millisecond)
	b.produce(0, 50)
	b.exec("EXCHANGE TABLES " + b.table() + " AND " + name)
	b.wantCommitted()
	require.EqualValues(t, 50, b.rows())
}

// A sink that cannot look intends nothing.
func TestNothingIsIntendedBeforeTheLook(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 10)
	b.wrap = func(inner Table) Table { return &blind{inner} }
	r := b.start(nil)
	r.wantIll("sink clickhouse", "not to be seen")
	require.EqualValues(t, 0, b.rows())
	offsets, err := b.admin.FetchOffsets(t.Context(), b.group)
	require.NoError(t, err)
	for _, partition := range offsets.Sorted() {
		m, err := decodeMetadata(partition.At, partition.Metadata)
		require.NoError(t, err)
		require.Nil(t, m.Intent)
	}
}

type blind struct{ Table }

func (*blind) Hold(context.Context) (string, error) { return "", fmt.Errorf("not to be seen") }
