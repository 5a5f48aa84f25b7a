package servers

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What a test asks while the shared engine is away is answered when it is back.
func TestQuestionsWaitForTheSharedEngine(t *testing.T) {
	if namedClickHouse() != nil {
		t.Skip("the server that " + clickHouseVariable + " names is not ours to kill")
	}
	server := ClickHouse(t)
	conn := server.Conn(t)
	engine, err := sharedEngine()
	require.NoError(t, err)
	restarts := engine.Restarts()
	require.NoError(t, engine.Kill())
	var one uint8
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT 1").Scan(&one))
	require.NoError(t, engine.Kill())
	rows, err := conn.Query(t.Context(), "SELECT 1")
	require.NoError(t, err)
	require.True(t, rows.Next())
	require.NoError(t, rows.Close())
	require.NoError(t, engine.Kill())
	require.NoError(t, server.execute("SELECT 1"))
	require.Greater(t, engine.Restarts(), restarts)
}
