package embedded

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
)

func startEngine(t *testing.T, options ClickHouseOptions) *ClickHouse {
	t.Helper()
	if options.Log == nil {
		options.Log = testLog(t)
	}
	engine, err := StartClickHouse(testContext(t), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	return engine
}

func connect(t *testing.T, address string) driver.Conn {
	t.Helper()
	connection, err := clickhouse.Open(&clickhouse.Options{Addr: []string{address}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, connection.Close()) })
	return connection
}

func count(t *testing.T, connection driver.Conn, query string) (n uint64) {
	t.Helper()
	require.NoError(t, connection.QueryRow(testContext(t), query).Scan(&n))
	return n
}

func TestEngineKeepsDataWhenKilledAndRestarted(t *testing.T) {
	ctx := testContext(t)
	directory := t.TempDir()
	restarted := make(chan struct{}, 8)
	engine := startEngine(t, ClickHouseOptions{Directory: directory, OnRestart: func() { restarted <- struct{}{} }})
	connection := connect(t, engine.Address())
	require.NoError(t, connection.Exec(ctx, "CREATE TABLE numbers (n UInt64) ENGINE = MergeTree ORDER BY n"))

	address, httpAddress := engine.Address(), engine.HTTPAddress()
	for kill := range 3 {
		require.NoError(t, connection.Exec(ctx, fmt.Sprintf("INSERT INTO numbers SELECT number + %d FROM numbers(1000)", kill*1000)))
		before := engine.PID()
		require.NoError(t, engine.Kill())
		require.NoError(t, engine.WaitReady(ctx))
		<-restarted
		require.NotEqual(t, before, engine.PID())
		require.Equal(t, kill+1, engine.Restarts())
		require.Equal(t, address, engine.Address())
		require.Equal(t, httpAddress, engine.HTTPAddress())
		connection = connect(t, engine.Address())
		require.Equal(t, uint64((kill+1)*1000), count(t, connection, "SELECT uniqExact(n) FROM numbers"))
	}

	require.NoError(t, engine.Close())
	requireFree(t, address)
	again := startEngine(t, ClickHouseOptions{Directory: directory})
	require.Equal(t, uint64(3000), count(t, connect(t, again.Address()), "SELECT count() FROM numbers"))
}

func TestEngineStopsInTimeWithConnectionsOpen(t *testing.T) {
	engine := startEngine(t, ClickHouseOptions{Directory: t.TempDir()})
	connection := connect(t, engine.Address())
	require.NoError(t, connection.Ping(testContext(t)))
	pid := engine.PID()
	started := time.Now()
	require.NoError(t, engine.Close(), "ended by itself, not by force")
	require.Less(t, time.Since(started), childGrace)
	require.False(t, alive(pid))
	require.NoError(t, engine.Close(), "a second Close is harmless")
}

func TestEngineSaysWhyItDoesNotStart(t *testing.T) {
	t.Run("port in use", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listener.Close()
		_, err = StartClickHouse(testContext(t), ClickHouseOptions{Directory: t.TempDir(), TCPPort: listener.Addr().(*net.TCPAddr).Port})
		require.ErrorIs(t, err, ErrAddressInUse)
		require.ErrorContains(t, err, listener.Addr().String())
	})
	t.Run("folder in use", func(t *testing.T) {
		directory := t.TempDir()
		startEngine(t, ClickHouseOptions{Directory: directory})
		_, err := StartClickHouse(testContext(t), ClickHouseOptions{Directory: directory})
		require.ErrorContains(t, err, "in use by another running engine")
	})
	t.Run("folder is a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		_, err := StartClickHouse(testContext(t), ClickHouseOptions{Directory: file})
		require.ErrorContains(t, err, "not a directory")
	})
	t.Run("configuration is missing", func(t *testing.T) {
		_, err := StartClickHouse(testContext(t), ClickHouseOptions{Directory: t.TempDir(), ConfigFile: "/nowhere.xml"})
		require.ErrorContains(t, err, "/nowhere.xml")
	})
	t.Run("library is none", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "libchdb.so")
		require.NoError(t, os.WriteFile(file, []byte("not a library"), 0o600))
		t.Setenv(libraryVariable, file)
		_, err := StartClickHouse(testContext(t), ClickHouseOptions{Directory: t.TempDir()})
		require.ErrorContains(t, err, "load "+file)
	})
	t.Run("binary is missing", func(t *testing.T) {
		t.Setenv(binaryVariable, "/nowhere/clickhouse")
		_, err := StartClickHouse(testContext(t), ClickHouseOptions{Directory: t.TempDir()})
		require.ErrorContains(t, err, binaryVariable)
	})
}

func TestOwnConfigurationIsMergedOver(t *testing.T) {
	ctx := testContext(t)
	other := startEngine(t, ClickHouseOptions{Directory: t.TempDir()})
	_, port, err := net.SplitHostPort(other.Address())
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "cluster.xml")
	require.NoError(t, os.WriteFile(file, []byte(`<clickhouse>
		<background_pool_size>6</background_pool_size>
		<remote_servers><pair><shard><replica><host>127.0.0.1</host><port>`+port+`</port></replica></shard></pair></remote_servers>
	</clickhouse>`), 0o600))
	engine := startEngine(t, ClickHouseOptions{Directory: t.TempDir(), ConfigFile: file})

	require.NoError(t, connect(t, other.Address()).Exec(ctx, "CREATE TABLE default.rows ENGINE = MergeTree ORDER BY n AS SELECT 7 AS n"))
	connection := connect(t, engine.Address())
	var value string
	require.NoError(t, connection.QueryRow(ctx, "SELECT value FROM system.server_settings WHERE name = 'background_pool_size'").Scan(&value))
	require.Equal(t, "6", value)
	require.Equal(t, uint64(7), count(t, connection, "SELECT toUInt64(sum(n)) FROM cluster('pair', default.rows)"))
}

// parentVariable makes the test binary a process that starts an engine, says
// where, and waits to be killed.
const parentVariable = "AUDITSTREAM_TEST_PARENT"

func runParentIfAsked() {
	directory := os.Getenv(parentVariable)
	if directory == "" {
		return
	}
	engine, err := StartClickHouse(context.Background(), ClickHouseOptions{Directory: directory})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	store, err := StartS3(context.Background(), S3Options{Directory: directory + "-s3"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(engine.PID(), engine.Address(), store.supervisor.pid(), store.address)
	select {}
}

func TestChildrenEndWithAParentThatIsKilled(t *testing.T) {
	directory := t.TempDir()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentVariable+"="+filepath.Join(directory, "engine"))
	output, err := parent.StdoutPipe()
	require.NoError(t, err)
	parent.Stderr = t.Output()
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	var enginePID, storePID int
	var address, storeAddress string
	_, err = fmt.Sscan(line, &enginePID, &address, &storePID, &storeAddress)
	require.NoError(t, err)
	require.True(t, alive(enginePID) && alive(storePID))

	// A connection that stays open must not keep the engine.
	require.NoError(t, connect(t, address).Ping(testContext(t)))
	require.NoError(t, parent.Process.Kill())
	require.Error(t, parent.Wait())
	require.Eventually(t, func() bool { return !alive(enginePID) && !alive(storePID) }, childGrace, 20*time.Millisecond)
	requireFree(t, address)
	requireFree(t, storeAddress)
	startEngine(t, ClickHouseOptions{Directory: filepath.Join(directory, "engine")}) // the data is not locked
}

// alive says whether a process runs; a zombie does not.
func alive(pid int) bool {
	output, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(output)), "Z")
}

func requireFree(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err, "the port is free")
	require.NoError(t, listener.Close())
}
