package clickhouse

import (
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"
)

// An insert that has begun and not ended is seen by its token, and ended; others
// are left alone.
func TestInsertUnderWayIsFoundAndEnded(t *testing.T) {
	cfg := testConfig(t)
	table, conn := openTable(t, cfg)
	running, err := table.Running(t.Context(), "token")
	require.NoError(t, err)
	require.False(t, running)
	ctx := clickhouse.Context(t.Context(), clickhouse.WithQueryID(queryID("token")))
	batch, err := connect(t, cfg).PrepareBatch(ctx, "INSERT INTO "+qualified(cfg)+" (id)")
	require.NoError(t, err)
	other, err := connect(t, cfg).PrepareBatch(clickhouse.Context(t.Context(), clickhouse.WithQueryID(queryID("another"))), "INSERT INTO "+qualified(cfg)+" (id)")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		running, err := table.Running(t.Context(), "token")
		require.NoError(t, err)
		return running
	}, 10*time.Second, 10*time.Millisecond)
	// The server waits for the client's rows, or its end, and then refuses them.
	require.NoError(t, batch.Append("late"))
	require.Error(t, batch.Send())
	require.Eventually(t, func() bool {
		running, err := table.Running(t.Context(), "token")
		require.NoError(t, err)
		return !running
	}, 30*time.Second, 50*time.Millisecond)
	require.NoError(t, other.Append("other"))
	require.NoError(t, other.Send())
	require.Equal(t, uint64(1), count(t, conn, "SELECT count() FROM "+qualified(cfg)))
}
