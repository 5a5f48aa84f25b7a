package clickhouse

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Through the view a row is there once, also while its twin is in another part.
func TestViewShowsEachRowOnce(t *testing.T) {
	cfg := testConfig(t)
	cfg.View = cfg.Table + "_events"
	table, conn := openTable(t, cfg)
	applied, err := Apply(t.Context(), conn, cfg)
	require.NoError(t, err)
	require.NotEmpty(t, applied)
	require.NoError(t, conn.Exec(t.Context(), "SYSTEM STOP MERGES "+qualified(cfg)))
	require.NoError(t, table.Prepare(t.Context()))
	require.False(t, table.HasViews(), "it follows no inserts")

	rows := makeRows(1000)
	for attempt := range 2 {
		for i := range rows {
			rows[i].Src.City = fmt.Sprintf("city %d", attempt)
		}
		_, err := table.Insert(t.Context(), fmt.Sprint("token ", attempt), rowsOf(rows))
		require.NoError(t, err)
	}
	require.Equal(t, uint64(2000), count(t, conn, "SELECT count() FROM "+qualified(cfg)))
	require.Equal(t, uint64(1000), count(t, conn, "SELECT count() FROM "+cfg.View))
	require.Equal(t, uint64(1000), count(t, conn, "SELECT uniqExact(id) FROM "+cfg.View+" WHERE srcCity = 'city 1'"), "what came last")

	// A view of another table, or of older columns, is made anew.
	for _, query := range []string{
		"SELECT * FROM " + cfg.Table,
		"SELECT * EXCEPT verb FROM " + qualified(cfg) + " FINAL SETTINGS " + viewSettings,
		"SELECT * FROM default.other FINAL SETTINGS " + viewSettings,
	} {
		if query == "SELECT * FROM default.other FINAL SETTINGS "+viewSettings {
			other := cfg
			other.Table, other.Database = "other", "default"
			require.NoError(t, conn.Exec(t.Context(), TableDDL(other)))
		}
		require.NoError(t, conn.Exec(t.Context(), "CREATE OR REPLACE VIEW "+cfg.View+" AS "+query))
		differences, err := Diff(t.Context(), conn, cfg)
		require.NoError(t, err)
		require.Len(t, differences, 1, query)
		_, err = Apply(t.Context(), conn, cfg)
		require.NoError(t, err)
		differences, err = Diff(t.Context(), conn, cfg)
		require.NoError(t, err)
		require.Empty(t, differences)
	}
	require.Contains(t, Print(cfg), ViewDDL(cfg))
}
