package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/embedded"
)

const clickHouseVariable = "AUDITSTREAM_TEST_CLICKHOUSE"

// ClickHouseServer is a server with a database for one test.
type ClickHouseServer struct {
	Address  string // of the native protocol
	Database string
	Username string
	Password string

	// Engine is the embedded engine, for tests that kill it; only OwnClickHouse
	// sets it.
	Engine  *embedded.ClickHouse
	options embedded.ClickHouseOptions // of Engine
	shared  *embedded.ClickHouse       // nil for any other server
}

var sharedEngine = sync.OnceValues(func() (*embedded.ClickHouse, error) {
	folder, err := sharedFolder("clickhouse")
	if err != nil {
		return nil, err
	}
	ctx, cancel := startContext()
	defer cancel()
	engine, err := embedded.StartClickHouse(ctx, embedded.ClickHouseOptions{Directory: folder, Log: log})
	if err != nil {
		return nil, err
	}
	atEnd.add(engine.Close)
	return engine, nil
})

// ClickHouse returns a server, the environment's or one shared by this test
// process, with a fresh database that is dropped after the test.
func ClickHouse(t testing.TB) *ClickHouseServer {
	t.Helper()
	server := namedClickHouse()
	if server == nil {
		engine, err := sharedEngine()
		requireEngine(t, err)
		server = &ClickHouseServer{Address: engine.Address(), Username: "default", shared: engine}
	}
	server.createDatabase(t)
	return server
}

// ReplicatedClickHouse returns the server that the environment names, with a
// fresh database, when it can have replicated tables. The embedded engine can't:
// without a port for other replicas its replicated tables stay read-only. So this
// is a skip also where every server is asked for.
func ReplicatedClickHouse(t testing.TB) *ClickHouseServer {
	t.Helper()
	server := namedClickHouse()
	if server == nil {
		t.Skip("replicated tables need a ClickHouse cluster: name one of its servers in " + clickHouseVariable)
	}
	if err := server.execute("SELECT count() FROM system.zookeeper WHERE path = '/'"); err != nil {
		t.Skipf("the server that %s names has no Keeper, which replicated tables need: %v", clickHouseVariable, err)
	}
	server.createDatabase(t)
	return server
}

// OwnClickHouse starts an engine for this test alone, to be killed, whatever
// the environment names.
func OwnClickHouse(t testing.TB) *ClickHouseServer {
	t.Helper()
	return OwnClickHouseWith(t, "")
}

// OwnClickHouseWith is OwnClickHouse with a configuration of the server's own;
// "" for none.
func OwnClickHouseWith(t testing.TB, configFile string) *ClickHouseServer {
	t.Helper()
	server := &ClickHouseServer{
		Username: "default",
		options:  embedded.ClickHouseOptions{Directory: t.TempDir(), ConfigFile: configFile, Log: log},
	}
	server.Up(t)
	server.Address = server.Engine.Address()
	t.Cleanup(func() { require.NoError(t, server.Engine.Close()) })
	server.createDatabase(t)
	return server
}

// Down kills the test's own engine, which stays away until Up.
func (s *ClickHouseServer) Down(t testing.TB) {
	t.Helper()
	require.NoError(t, s.Engine.Kill())
	require.NoError(t, s.Engine.Close())
}

// Up starts the engine, after Down on the same port with what it had on disk.
func (s *ClickHouseServer) Up(t testing.TB) {
	t.Helper()
	ctx, cancel := startContext()
	defer cancel()
	engine, err := embedded.StartClickHouse(ctx, s.options)
	requireEngine(t, err)
	s.Engine = engine
	_, port, err := net.SplitHostPort(engine.Address())
	require.NoError(t, err)
	s.options.TCPPort, err = strconv.Atoi(port)
	require.NoError(t, err)
}

func requireEngine(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, embedded.ErrEngineUnavailable) {
		unavailable(t, "%v", err)
	}
	require.NoError(t, err)
}

// Conn returns a connection to the test's database, closed after the test.
func (s *ClickHouseServer) Conn(t testing.TB) driver.Conn {
	t.Helper()
	connection, err := s.open(s.Database)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, connection.Close()) })
	return s.patient(connection)
}

// Configure names the server and the test's database in a configuration.
func (s *ClickHouseServer) Configure(cfg *config.ClickHouse) {
	cfg.Addresses, cfg.Database = []string{s.Address}, s.Database
	cfg.Username, cfg.Password = s.Username, config.Secret(s.Password)
}

func (s *ClickHouseServer) patient(connection driver.Conn) driver.Conn {
	if s.shared == nil {
		return connection
	}
	return patientConn{connection, s.shared}
}

func (s *ClickHouseServer) open(database string) (driver.Conn, error) {
	return clickhouse.Open(&clickhouse.Options{
		Addr: []string{s.Address},
		Auth: clickhouse.Auth{Database: database, Username: s.Username, Password: s.Password},
	})
}

func (s *ClickHouseServer) createDatabase(t testing.TB) {
	t.Helper()
	s.Database = strings.ReplaceAll(Name(t, "test"), "-", "_")
	require.NoError(t, s.execute("CREATE DATABASE IF NOT EXISTS "+s.Database))
	t.Cleanup(func() {
		// A killed engine may be on its way back.
		deadline := time.Now().Add(30 * time.Second)
		err := s.execute("DROP DATABASE IF EXISTS " + s.Database)
		for s.Engine != nil && err != nil && time.Now().Before(deadline) {
			err = s.execute("DROP DATABASE IF EXISTS " + s.Database)
		}
		require.NoError(t, err)
	})
}

// execute runs a statement that may be run twice, outside of the test's context,
// which is over when cleaning up.
func (s *ClickHouseServer) execute(statement string) (err error) {
	connection, err := s.open("default")
	if err != nil {
		return fmt.Errorf("open %s: %w", s.Address, err)
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if s.Engine != nil {
		if err := s.Engine.WaitReady(ctx); err != nil {
			return err
		}
	}
	run := func() error { return connection.Exec(ctx, statement) }
	if s.shared != nil {
		// Its statements may be made again, whether they had reached the engine or not.
		err = patientConn{connection, s.shared}.untilBack(ctx, brokenOff, run)
	} else {
		err = run()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// namedClickHouse is the server that the environment names, nil without one.
func namedClickHouse() *ClickHouseServer {
	named := os.Getenv(clickHouseVariable)
	if named == "" {
		return nil
	}
	server := &ClickHouseServer{Username: "default"}
	parts := strings.SplitN(named, ",", 3) // a password may hold commas
	server.Address = parts[0]
	if len(parts) > 1 && parts[1] != "" {
		server.Username = parts[1]
	}
	if len(parts) > 2 {
		server.Password = parts[2]
	}
	return server
}
