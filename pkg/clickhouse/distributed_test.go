package clickhouse

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The table over all shards reads from each, follows the tables' columns, and
// takes no rows itself.
func TestTableOverAllShards(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a free port
	require.NoError(t, err)
	port := free.Addr().(*net.TCPAddr).Port
	require.NoError(t, free.Close())
	first := engineWith(t, 0, "")
	_, firstPort, err := net.SplitHostPort(first.Addresses[0])
	require.NoError(t, err)
	shard := func(port string) string {
		return "<shard><replica><host>127.0.0.1</host><port>" + port + "</port></replica></shard>"
	}
	second := engineWith(t, port, "<remote_servers><pair>"+shard(firstPort)+shard(strconv.Itoa(port))+"</pair></remote_servers>")
	// ON CLUSTER needs a Keeper, which the embedded engine has none of.
	local := strings.NewReplacer(" ON CLUSTER `pair`", "", "ReplicatedReplacing", "Replacing", "replicated_dedup", "non_replicated_dedup",
		", non_replicated_deduplication_window_seconds = 604800", "")
	cfg := second
	cfg.Cluster, cfg.ObjectsTable = "pair", "objects"
	for number, one := range []struct{ address string }{{first.Addresses[0]}, {second.Addresses[0]}} {
		on := cfg
		on.Addresses, on.Cluster, on.CreateTable = []string{one.address}, "", true
		table, conn := openTable(t, on)
		rows := makeRows(100)
		for i := range rows {
			rows[i].ID = fmt.Sprintf("%d-%d", number, i)
		}
		_, err := table.Insert(t.Context(), "token", rowsOf(rows))
		require.NoError(t, err)
		require.NoError(t, conn.Exec(t.Context(), ObjectsDDL(on)))
	}
	conn := connect(t, second)
	missing, err := diffDistributed(t.Context(), conn, cfg, &events)
	require.NoError(t, err)
	require.Len(t, missing, 1)
	require.Equal(t, missing[0].Statement, DistributedDDL(cfg)[0])
	for _, statement := range DistributedDDL(cfg) {
		require.Contains(t, Print(cfg), statement)
		require.NoError(t, conn.Exec(t.Context(), local.Replace(statement)), statement)
	}
	require.Equal(t, uint64(200), count(t, conn, "SELECT uniqExact(id) FROM events_all"))
	require.Error(t, conn.Exec(t.Context(), "INSERT INTO events_all (id) VALUES ('through')"))

	none, err := diffDistributed(t.Context(), conn, cfg, &events)
	require.NoError(t, err)
	require.Empty(t, none)
	require.NoError(t, conn.Exec(t.Context(), "ALTER TABLE events_all DROP COLUMN verb"))
	lacking, err := diffDistributed(t.Context(), conn, cfg, &events)
	require.NoError(t, err)
	require.Len(t, lacking, 1)
	require.NoError(t, conn.Exec(t.Context(), local.Replace(lacking[0].Statement)))
	require.Equal(t, uint64(200), count(t, conn, "SELECT count(verb) FROM events_all"))
}
