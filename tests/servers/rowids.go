package servers

import (
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
)

// RowIDs are the ids in a table or view, with how many rows each has: as parts
// hold them, unless a view itself asks for less.
func RowIDs(t testing.TB, conn driver.Conn, table string) map[string]uint64 {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT id, count() FROM "+table+" GROUP BY id SETTINGS final = 0")
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	ids := make(map[string]uint64)
	for rows.Next() {
		var id string
		var times uint64
		require.NoError(t, rows.Scan(&id, &times))
		ids[id] = times
	}
	require.NoError(t, rows.Err())
	return ids
}
