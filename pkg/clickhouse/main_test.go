package clickhouse

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/embedded"
)

var engine struct {
	once   sync.Once
	server *embedded.ClickHouse
	err    error
	folder string
}

func TestMain(m *testing.M) {
	embedded.RunChildIfAsked()
	code := m.Run()
	if engine.server != nil {
		_ = engine.server.Close()
	}
	if engine.folder != "" {
		_ = os.RemoveAll(engine.folder)
	}
	os.Exit(code)
}

// testConfig names a table of its own on the server that the environment names,
// or on one engine that all tests of the package share.
func testConfig(t testing.TB) config.ClickHouse {
	t.Helper()
	address := os.Getenv("AUDITSTREAM_TEST_CLICKHOUSE")
	if address == "" {
		engine.once.Do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
			defer cancel()
			if engine.folder, engine.err = os.MkdirTemp("", "clickhouse-test-"); engine.err != nil {
				return
			}
			engine.server, engine.err = embedded.StartClickHouse(ctx, embedded.ClickHouseOptions{
				Directory: engine.folder, Log: slog.New(slog.DiscardHandler),
			})
		})
		require.NoError(t, engine.err)
		address = engine.server.Address()
	}
	name := strings.NewReplacer("/", "_", "#", "_").Replace(t.Name())
	name = fmt.Sprintf("%s_%d", name, time.Now().UnixNano())
	return config.ClickHouse{
		Addresses: []string{address}, Username: "default", Compression: "lz4",
		Database: "default", Table: name, ObjectsTable: "objects_" + name,
		CreateTable: true,
	}
}

func connect(t testing.TB, cfg config.ClickHouse) driver.Conn {
	t.Helper()
	conn, err := Connect(cfg, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// table is made, prepared, and dropped in the end.
func openTable(t testing.TB, cfg config.ClickHouse) (*Table, driver.Conn) {
	t.Helper()
	conn := connect(t, cfg)
	table, err := OpenTable(cfg, nil)
	require.NoError(t, err)
	require.NoError(t, table.Prepare(t.Context()))
	t.Cleanup(func() {
		_ = table.Close()
		_ = conn.Exec(context.Background(), "DROP TABLE IF EXISTS "+qualified(cfg))
	})
	return table, conn
}

func count(t testing.TB, conn driver.Conn, query string) uint64 {
	t.Helper()
	var number uint64
	require.NoError(t, conn.QueryRow(t.Context(), query).Scan(&number))
	return number
}
