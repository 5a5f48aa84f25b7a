package clickhouse

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
)

func selectedMarks(t testing.TB, conn driver.Conn) uint64 {
	t.Helper()
	return count(t, conn, "SELECT sum(value) FROM system.events WHERE event = 'SelectedMarks'")
}

func TestColumnsAreTheSchema(t *testing.T) {
	text, err := os.ReadFile("../../../shared/schema/kubernetes_audit_logs.tsv")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the schema's file is not beside the project")
	}
	require.NoError(t, err)
	var got strings.Builder
	for _, column := range Columns() {
		got.WriteString(column.Name + "\t" + column.Type + "\n")
	}
	require.Equal(t, strings.TrimRight(string(text), "\n"), strings.TrimRight(got.String(), "\n"))
}

func TestPrintedSchemaHasNoDifference(t *testing.T) {
	cfg := testConfig(t)
	conn := connect(t, cfg)
	differences, err := Diff(t.Context(), conn, cfg)
	require.NoError(t, err)
	require.Len(t, differences, 2)
	applied, err := Apply(t.Context(), conn, cfg)
	require.NoError(t, err)
	require.Len(t, applied, 2)
	differences, err = Diff(t.Context(), conn, cfg)
	require.NoError(t, err)
	require.Empty(t, differences)
	require.NoError(t, Check(t.Context(), conn, cfg))
	require.NoError(t, CheckObjects(t.Context(), conn, cfg))

	// What the ledger's table lacks is told as its own.
	require.NoError(t, conn.Exec(t.Context(), "ALTER TABLE "+qualified(ofObjects(cfg))+" DROP COLUMN ranges"))
	differences, err = Diff(t.Context(), conn, cfg)
	require.NoError(t, err)
	require.Len(t, differences, 1)
	require.Equal(t, cfg.ObjectsTable+", column ranges", differences[0].Subject)
	require.ErrorContains(t, CheckObjects(t.Context(), conn, cfg), "column ranges: is missing")
	require.NoError(t, Check(t.Context(), conn, cfg))
	_, err = Apply(t.Context(), conn, cfg)
	require.NoError(t, err)
	require.NoError(t, CheckObjects(t.Context(), conn, cfg))
}

func TestDatabaseIsCreated(t *testing.T) {
	cfg := testConfig(t)
	cfg.Database = "made_" + cfg.Table
	conn := connect(t, cfg)
	_, err := Apply(t.Context(), conn, cfg)
	require.NoError(t, err)
	require.NoError(t, Check(t.Context(), conn, cfg))
	require.NoError(t, conn.Exec(t.Context(), "DROP DATABASE "+Quote(cfg.Database)))
}

func TestApplyAddsAndNeverDrops(t *testing.T) {
	cfg := testConfig(t)
	_, conn := openTable(t, cfg)
	for _, change := range []string{
		"ADD COLUMN mine UInt8 FIRST", "DROP COLUMN verb", "DROP INDEX idx_srcIP", "MODIFY SETTING non_replicated_deduplication_window = 5",
		"MODIFY COLUMN kind LowCardinality(String)",
	} {
		require.NoError(t, conn.Exec(t.Context(), "ALTER TABLE "+qualified(cfg)+" "+change), change)
	}
	applied, err := Apply(t.Context(), conn, cfg)
	require.ErrorIs(t, err, ErrConflict)
	require.ErrorContains(t, err, "column kind: is LowCardinality(String), want String")
	require.Len(t, applied, 4, "with the table of the ledger")
	require.NoError(t, conn.Exec(t.Context(), "ALTER TABLE "+qualified(cfg)+" MODIFY COLUMN kind String CODEC(ZSTD(1))"))
	differences, err := Diff(t.Context(), conn, cfg)
	require.NoError(t, err)
	require.Empty(t, differences)
	require.Equal(t, uint64(1), count(t, conn, "SELECT count() FROM system.columns WHERE table = '"+cfg.Table+"' AND name = 'mine'"))
}

func TestCheckRefuses(t *testing.T) {
	const good = "ENGINE = ReplacingMergeTree"
	tests := map[string]struct {
		ddl  func(string) string
		then []string
		want []string
	}{
		"no table": {want: []string{"table: there is none"}},
		"no window": {
			ddl:  func(ddl string) string { return replaceWindow(ddl, "0") },
			want: []string{"non_replicated_deduplication_window", "is 0, at least 1000", "MODIFY SETTING"},
		},
		"small window": {
			ddl:  func(ddl string) string { return replaceWindow(ddl, "100") },
			want: []string{"is 100, at least 1000"},
		},
		"wrong types": {
			ddl: func(ddl string) string {
				return strings.NewReplacer("`verb` String", "`verb` FixedString(9)", "`time` DateTime", "`time` DateTime64(3)").Replace(ddl)
			},
			want: []string{"column verb: is FixedString(9), want String", "column time: is DateTime64(3), want DateTime"},
		},
		"column missing": {
			then: []string{"ALTER TABLE {table} DROP COLUMN stream"},
			want: []string{"column stream: is missing, want String", "ADD COLUMN"},
		},
		"materialized column": {
			ddl: func(ddl string) string {
				return strings.Replace(ddl, "`kind` String", "`kind` String MATERIALIZED 'x'", 1)
			},
			want: []string{"column kind: is MATERIALIZED"},
		},
		"plain MergeTree": {
			ddl:  func(ddl string) string { return strings.Replace(ddl, good, "ENGINE = MergeTree", 1) },
			want: []string{"MergeTree is not ReplacingMergeTree"},
		},
		"version column": {
			ddl: func(ddl string) string {
				return strings.Replace(ddl, good, "ENGINE = ReplacingMergeTree(eventTime)", 1)
			},
			want: []string{"ReplacingMergeTree(eventTime) is not"},
		},
		"id not in the key": {
			ddl:  func(ddl string) string { return strings.Replace(ddl, "receivedAt, id)", "receivedAt)", 1) },
			want: []string{"lacks id"},
		},
		"view without window": {
			then: []string{"CREATE TABLE {table}_target (id String) ENGINE = MergeTree ORDER BY id", "CREATE MATERIALIZED VIEW {table}_view TO {table}_target AS SELECT id FROM {table}"},
			want: []string{"_view`, setting non_replicated_deduplication_window", "_target` is 0"},
		},
		"view with inner table": {
			then: []string{"CREATE MATERIALIZED VIEW {table}_inner ENGINE = MergeTree ORDER BY id AS SELECT id FROM {table}"},
			want: []string{"_inner`, setting non_replicated_deduplication_window"},
		},
		"view on a view": {
			then: []string{
				"CREATE TABLE {table}_null (id String) ENGINE = Null", "CREATE MATERIALIZED VIEW {table}_v1 TO {table}_null AS SELECT id FROM {table}",
				"CREATE TABLE {table}_memory (id String) ENGINE = Memory", "CREATE MATERIALIZED VIEW {table}_v2 TO {table}_memory AS SELECT id FROM {table}_null",
			},
			want: []string{"(Memory) would get a repeated block twice"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.Table = strings.ReplaceAll(cfg.Table, " ", "_")
			conn := connect(t, cfg)
			if name != "no table" {
				ddl := TableDDL(cfg)
				if test.ddl != nil {
					changed := test.ddl(ddl)
					require.NotEqual(t, ddl, changed)
					ddl = changed
				}
				require.NoError(t, conn.Exec(t.Context(), ddl))
			}
			for _, statement := range test.then {
				require.NoError(t, conn.Exec(t.Context(), strings.ReplaceAll(statement, "{table}", cfg.Table)))
			}
			err := Check(t.Context(), conn, cfg)
			var unfit *UnfitError
			require.ErrorAs(t, err, &unfit)
			require.True(t, NeedsMending(err))
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func replaceWindow(ddl, window string) string {
	return strings.Replace(ddl, "non_replicated_deduplication_window = 10000", "non_replicated_deduplication_window = "+window, 1)
}

func TestCheckAcceptsViewsThatDeduplicate(t *testing.T) {
	cfg := testConfig(t)
	table, conn := openTable(t, cfg)
	name := cfg.Table
	for _, statement := range []string{
		"CREATE TABLE " + name + "_target (verb String, n UInt64) ENGINE = SummingMergeTree ORDER BY verb SETTINGS non_replicated_deduplication_window = 1000",
		"CREATE MATERIALIZED VIEW " + name + "_view TO " + name + "_target AS SELECT verb, count() AS n FROM " + name + " GROUP BY verb",
	} {
		require.NoError(t, conn.Exec(t.Context(), statement))
	}
	require.NoError(t, table.Prepare(t.Context()))
	require.True(t, table.HasViews())
	rows := makeRows(1000)
	for range 3 {
		_, err := table.Insert(t.Context(), "token", rowsOf(rows))
		require.NoError(t, err)
	}
	require.Equal(t, uint64(1000), count(t, conn, "SELECT count() FROM "+name))
	require.Equal(t, uint64(1000), count(t, conn, "SELECT sum(n) FROM "+name+"_target"))
}

func TestTargetFromTheStatement(t *testing.T) {
	for query, want := range map[string]string{
		"CREATE MATERIALIZED VIEW default.mv TO default.tgt (`c` UInt64) AS SELECT 1": "`default`.`tgt`",
		"CREATE MATERIALIZED VIEW d.`m v` TO `a.b`.`c\\`d` (`c` UInt64) AS SELECT 1":  "`a.b`.`c\\`d`",
	} {
		match := viewTarget.FindStringSubmatch(query)
		require.NotNil(t, match, query)
		parts := splitIdentifier(match[1])
		require.Equal(t, want, tableRef{parts[0], parts[1]}.String())
	}
}
