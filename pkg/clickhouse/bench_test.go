package clickhouse

import (
	"fmt"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"
)

const benchRows = 50_000

// BenchmarkInsert sends rows through the filler, as the sink does.
func BenchmarkInsert(b *testing.B) {
	cfg := testConfig(b)
	table, conn := openTable(b, cfg)
	rows := makeRows(benchRows)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		if _, err := table.Insert(b.Context(), fmt.Sprint("token", n), rowsOf(rows)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(benchRows*n)/b.Elapsed().Seconds(), "rows/s")
	b.StopTimer()
	require.NoError(b, conn.Exec(b.Context(), "TRUNCATE TABLE "+qualified(cfg)))
}

// BenchmarkInsertPrebuilt is the ceiling: the same columns as slices made
// beforehand, through the driver's own columnar append.
func BenchmarkInsertPrebuilt(b *testing.B) {
	cfg := testConfig(b)
	table, conn := openTable(b, cfg)
	prebuilt := prebuiltColumns(makeRows(benchRows))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		settings := clickhouse.Settings{"insert_deduplication_token": fmt.Sprint("token", n)}
		for name, value := range table.prepared.Load().insertSettings {
			settings[name] = value
		}
		batch, err := conn.PrepareBatch(clickhouse.Context(b.Context(), clickhouse.WithSettings(settings)), table.insert)
		require.NoError(b, err)
		for i, values := range prebuilt {
			require.NoError(b, batch.Column(i).Append(values))
		}
		require.NoError(b, batch.Send())
	}
	b.ReportMetric(float64(benchRows*n)/b.Elapsed().Seconds(), "rows/s")
	b.StopTimer()
	require.NoError(b, conn.Exec(b.Context(), "TRUNCATE TABLE "+qualified(cfg)))
}

// BenchmarkFill is the client's part alone: rows into the driver's columns.
func BenchmarkFill(b *testing.B) {
	cfg := testConfig(b)
	table, conn := openTable(b, cfg)
	rows := makeRows(benchRows)
	fill := newFiller()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		batch, err := conn.PrepareBatch(b.Context(), table.insert)
		require.NoError(b, err)
		require.NoError(b, fillBlock(fill, batch, rowsOf(rows)))
		require.NoError(b, batch.Abort())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(benchRows*n), "ns/row")
}

func TestPrebuiltColumnsAreTheRows(t *testing.T) {
	cfg := testConfig(t)
	table, conn := openTable(t, cfg)
	rows := makeRows(500)
	_, err := table.Insert(t.Context(), "filled", rowsOf(rows))
	require.NoError(t, err)
	batch, err := conn.PrepareBatch(t.Context(), table.insert)
	require.NoError(t, err)
	for i, values := range prebuiltColumns(rows) {
		require.NoError(t, batch.Column(i).Append(values), columns[i].Name)
	}
	require.NoError(t, batch.Send())
	require.Equal(t, uint64(500), count(t, conn, "SELECT count() FROM (SELECT * REPLACE (mapSort(actor) AS actor, mapSort(tags) AS tags) FROM "+qualified(cfg)+" GROUP BY ALL HAVING count() = 2)"))
}
