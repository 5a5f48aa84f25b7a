package intake_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/tests/stages"
)

// table is where the enricher and the sink of a pipeline bring its lines.
type table struct {
	t    *testing.T
	conn driver.Conn
}

// startTable runs the enricher and the sink, on a table without merges:
// collapsing must not hide a double.
func (p *pipeline) startTable() *table {
	p.t.Helper()
	server := servers.ClickHouse(p.t)
	cfg := p.config()
	server.Configure(&cfg.ClickHouse)
	conn := server.Conn(p.t)
	_, err := clickhouse.Apply(p.t.Context(), conn, cfg.ClickHouse)
	require.NoError(p.t, err)
	require.NoError(p.t, conn.Exec(p.t.Context(), "ALTER TABLE "+cfg.ClickHouse.Table+" MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1,"+
		" max_bytes_to_merge_at_min_space_in_pool = 1"))
	log := slog.New(slog.NewTextHandler(p.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	stages.Run(p.t, cfg, log, nil, config.CommandEnricher, config.CommandSink)
	return &table{p.t, conn}
}

// requireRows compares the rows with the lines that were in raw: the same ids,
// each once, each with its source and its line byte for byte.
func (b *table) requireRows(want map[string]string) {
	b.t.Helper()
	var count uint64
	require.Eventually(b.t, func() bool {
		err := b.conn.QueryRow(b.t.Context(), "SELECT count() FROM kubernetes_audit_logs").Scan(&count)
		return err == nil && count >= uint64(len(want))
	}, patience, 100*time.Millisecond, "rows are missing")
	rows, err := b.conn.Query(b.t.Context(), "SELECT id, sourceID, rawLog FROM kubernetes_audit_logs")
	require.NoError(b.t, err)
	defer func() { require.NoError(b.t, rows.Close()) }()
	got := make(map[string]string)
	for rows.Next() {
		var id, source, line string
		require.NoError(b.t, rows.Scan(&id, &source, &line))
		_, twice := got[id]
		require.False(b.t, twice, "%s is there twice", id)
		got[id] = source + " " + line
	}
	require.NoError(b.t, rows.Err())
	require.Equal(b.t, want, got)
}

// auditLines are two events.
func auditLines(bucket, key string) string {
	event := func(n int) string {
		return fmt.Sprintf(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"%s %d","stage":"ResponseComplete",`+
			`"requestURI":"/api/v1/pods","verb":"list","user":{"username":%q},"responseStatus":{"code":200},`+
			`"requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z","stageTimestamp":"2026-01-01T00:00:00.000001Z"}`+"\n", bucket, n, key)
	}
	return event(1) + event(2)
}
