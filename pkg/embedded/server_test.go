package embedded

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// standInVariable makes the test binary take the place of a clickhouse
// binary, with the library below: "server --config-file=..." serves until it
// gets a signal, whatever becomes of its standard input.
const standInVariable = "AUDITSTREAM_TEST_CLICKHOUSE_STAND_IN"

func serveAsClickHouseIfAsked() {
	library := os.Getenv(standInVariable)
	if library == "" || len(os.Args) < 3 || os.Args[1] != "server" {
		return
	}
	configFile := strings.TrimPrefix(os.Args[2], "--config-file=")
	endless, _, err := os.Pipe()
	if err == nil {
		err = unix.Dup2(int(endless.Fd()), 0)
	}
	if err == nil {
		err = runEngine(engineOrder{Library: library, Arguments: []string{
			"clickhouse", "--config-file=" + configFile, "--path=" + filepath.Join(filepath.Dir(filepath.Dir(configFile)), "data"), "--query=" + serveUntilInputEnds,
		}})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

const eventuallyTick = 20 * time.Millisecond

// serverPID is the process that stands in for the binary.
func serverPID(t *testing.T) int {
	t.Helper()
	output, err := exec.Command("pgrep", "-f", "^"+regexp.QuoteMeta(os.Args[0])+" server ").Output()
	require.NoError(t, err)
	var pid int
	_, err = fmt.Sscan(string(output), &pid)
	require.NoError(t, err)
	return pid
}

// A clickhouse binary does not watch our pipe, so its life is tied to ours in
// another way.
func TestBinaryIsRunKilledRestartedAndEnded(t *testing.T) {
	library, err := FetchEngine(testContext(t), testLog(t))
	require.NoError(t, err)
	script := filepath.Join(t.TempDir(), "clickhouse")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nexec "+os.Args[0]+" \"$@\"\n"), 0o755))
	t.Setenv(binaryVariable, script)
	t.Setenv(standInVariable, library)

	ctx := testContext(t)
	engine := startEngine(t, ClickHouseOptions{Directory: t.TempDir()})
	connection := connect(t, engine.Address())
	// The library now and then aborts just after its start, and is restarted.
	require.Eventually(t, func() bool {
		return connection.Exec(ctx, "CREATE OR REPLACE TABLE numbers ENGINE = MergeTree ORDER BY n AS SELECT toUInt64(7) AS n") == nil
	}, childGrace, eventuallyTick)
	restarts := engine.Restarts()
	server := serverPID(t)
	require.NotEqual(t, engine.PID(), server, "the binary runs below our child")

	require.NoError(t, engine.Kill())
	require.NoError(t, engine.WaitReady(ctx))
	require.False(t, alive(server), "killed with our child")
	connection = connect(t, engine.Address())
	require.Equal(t, uint64(7), count(t, connection, "SELECT sum(n) FROM numbers"))

	// Only our child is killed: the kernel ends the binary with it.
	server = serverPID(t)
	require.NoError(t, syscall.Kill(engine.PID(), syscall.SIGKILL))
	require.Eventually(t, func() bool { return !alive(server) }, childGrace, eventuallyTick)
	require.Eventually(t, func() bool { return engine.Restarts() > restarts+1 }, childGrace, eventuallyTick)
	connect(t, engine.Address())
	server = serverPID(t)
	require.NoError(t, engine.Close())
	require.False(t, alive(server))
}
