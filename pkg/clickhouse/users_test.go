package clickhouse

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/embedded"
)

// engineWith starts an engine with a configuration of its own.
func engineWith(t *testing.T, tcp int, configuration string) config.ClickHouse {
	t.Helper()
	started, err := embedded.StartClickHouse(t.Context(), embedded.ClickHouseOptions{
		Directory: t.TempDir(), TCPPort: tcp, ConfigFile: xmlFile(t, configuration), Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, started.Close()) })
	return config.ClickHouse{Addresses: []string{started.Address()}, Username: "default", Compression: "lz4", Database: "default", Table: "events"}
}

func xmlFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "own.xml")
	require.NoError(t, os.WriteFile(file, []byte("<clickhouse>"+text+"</clickhouse>"), 0o600))
	return file
}

// profile is what a user's queries run with.
type profile struct {
	settings map[string]string
	// pinned settings can't be changed by the user.
	pinned bool
	grants []string // none: all
}

// engineWithUsers starts an engine with a user for each profile, of its name,
// and "default" that may do everything.
func engineWithUsers(t *testing.T, each map[string]profile) config.ClickHouse {
	t.Helper()
	var profiles, entries strings.Builder
	for name, one := range each {
		fmt.Fprintf(&profiles, "<%s>", name)
		for setting, value := range one.settings {
			fmt.Fprintf(&profiles, "<%s>%s</%s>", setting, value, setting)
		}
		profiles.WriteString("<constraints>")
		for setting := range one.settings {
			if one.pinned {
				fmt.Fprintf(&profiles, "<%s><readonly/></%s>", setting, setting)
			}
		}
		fmt.Fprintf(&profiles, "</constraints></%s>", name)
		fmt.Fprintf(&entries, "<%s><password/><networks><ip>127.0.0.1</ip></networks><profile>%s</profile><quota>default</quota>", name, name)
		if one.grants != nil {
			entries.WriteString("<grants>")
			for _, grant := range one.grants {
				entries.WriteString("<query>GRANT " + grant + "</query>")
			}
			entries.WriteString("</grants>")
		}
		fmt.Fprintf(&entries, "</%s>", name)
	}
	file := xmlFile(t, "<profiles><default/>"+profiles.String()+"</profiles><quotas><default/></quotas><users>"+
		"<default><password/><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default>"+
		entries.String()+"</users>")
	return engineWith(t, 0, "<users_config>"+file+"</users_config>"+
		"<user_directories><users_xml><path>"+file+"</path></users_xml></user_directories>")
}

// adverse are values with which an insert or a question of ours would not do
// what it should, each with what makes it matter.
var adverse = map[string]map[string]string{
	"async_insert":       {"async_insert": "1", "wait_for_async_insert": "0"},
	"insert_deduplicate": {"insert_deduplicate": "0"},
	"deduplicate_insert": {"deduplicate_insert": "disable"},
	"deduplicate_blocks_in_dependent_materialized_views": {"deduplicate_blocks_in_dependent_materialized_views": "0"},
	"materialized_views_ignore_errors":                   {"materialized_views_ignore_errors": "1"},
	"max_partitions_per_insert_block":                    {"max_partitions_per_insert_block": "1"},
	"max_insert_block_size":                              {"max_insert_block_size": "10"},
	"max_insert_block_size_bytes":                        {"max_insert_block_size_bytes": "1000"},
	"min_insert_block_size_rows":                         {"min_insert_block_size_rows": "100000000"},
	"min_insert_block_size_bytes":                        {"min_insert_block_size_bytes": "100000000"},
	"max_insert_threads":                                 {"max_insert_threads": "4", "parallel_view_processing": "1"},
	"optimize_on_insert":                                 {"optimize_on_insert": "1"},
	"insert_deduplication_token":                         {"insert_deduplication_token": "pinned"},
	"send_profile_events":                                {"send_profile_events": "0"},
	"implicit_transaction":                               {"implicit_transaction": "1"},
	"final":                                              {"final": "1"},
	"limit":                                              {"limit": "1"},
	"offset":                                             {"offset": "1"},
	"use_query_cache":                                    {"use_query_cache": "1"},
	"use_query_condition_cache":                          {"use_query_condition_cache": "1"},
	"group_by_overflow_mode":                             {"group_by_overflow_mode": "any", "max_rows_to_group_by": "2"},
	"sort_overflow_mode":                                 {"sort_overflow_mode": "break", "max_rows_to_sort": "10"},
	"join_overflow_mode":                                 {"join_overflow_mode": "break", "max_rows_in_join": "10"},
	"distinct_overflow_mode":                             {"distinct_overflow_mode": "break", "max_rows_in_distinct": "10"},
	"read_overflow_mode":                                 {"read_overflow_mode": "break", "max_rows_to_read": "10"},
	"read_overflow_mode_leaf":                            {"read_overflow_mode_leaf": "break", "max_rows_to_read_leaf": "10"},
	"result_overflow_mode":                               {"result_overflow_mode": "break", "max_result_rows": "10"},
	"set_overflow_mode":                                  {"set_overflow_mode": "break", "max_rows_in_set": "10"},
	"timeout_overflow_mode":                              {"timeout_overflow_mode": "break"},
	"timeout_overflow_mode_leaf":                         {"timeout_overflow_mode_leaf": "break"},
	"transfer_overflow_mode":                             {"transfer_overflow_mode": "break", "max_rows_to_transfer": "10"},
	"additional_table_filters":                           {"additional_table_filters": "{'default.inserts': 'id = 1', 'default.reads': 'id = 1'}"},
	"additional_result_filter":                           {"additional_result_filter": "0"},
	"select_sequential_consistency":                      {"select_sequential_consistency": "0"},
	"enable_parallel_replicas":                           {"enable_parallel_replicas": "1"},
}

func requiredSettings() []string {
	names := []string{"insert_deduplication_token"}
	for _, r := range slices.Concat(insertRequirements, proofRequirements) {
		names = append(names, r.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// bounding are the settings that, with what makes them matter, turn an answer
// cut short, or a view that lacks rows, into an error.
var bounding = map[string]bool{
	"distinct_overflow_mode": true, "read_overflow_mode": true, "read_overflow_mode_leaf": true,
	"result_overflow_mode": true, "set_overflow_mode": true, "group_by_overflow_mode": true,
	"sort_overflow_mode": true,
}

// Whatever a profile says, a repeated insert adds nothing, to the table and
// behind it, and every row is found; or what would be cut short is an error.
func TestNoProfileVoidsDeduplication(t *testing.T) {
	require.Equal(t, requiredSettings(), slices.Sorted(maps.Keys(adverse)), "settings without a test")
	inserts, reads := profile{settings: map[string]string{}}, profile{settings: map[string]string{}}
	each := map[string]profile{"inserts": inserts, "reads": reads}
	for name, settings := range adverse {
		switch {
		case bounding[name]:
			each[name] = profile{settings: settings}
		case slices.ContainsFunc(proofRequirements, func(r requirement) bool { return r.name == name }):
			maps.Copy(reads.settings, settings)
		default:
			maps.Copy(inserts.settings, settings)
		}
	}
	cfg := engineWithUsers(t, each)
	conn := connect(t, cfg)
	rows := makeRows(500)
	for i := range rows {
		rows[i].ReceivedAt = uint32(time.Date(2024, time.Month(1+i%3), 1, 0, 0, 0, 0, time.UTC).Unix()) //nolint:gosec // after 1970
		rows[i].SourceTTL = 0
	}
	for name := range each {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			cfg.Table = name
			require.NoError(t, conn.Exec(t.Context(), TableDDL(cfg)))
			for _, statement := range []string{
				"SYSTEM STOP MERGES " + name,
				"CREATE TABLE " + name + "_target (id String, n UInt64) ENGINE = SummingMergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 1000",
				"CREATE MATERIALIZED VIEW " + name + "_view TO " + name + "_target AS SELECT id, count() AS n FROM " + name + " GROUP BY id",
			} {
				require.NoError(t, conn.Exec(t.Context(), statement))
			}
			cfg.Username = name
			table, err := OpenTable(cfg, nil)
			require.NoError(t, err)
			defer table.Close()
			err = table.Prepare(t.Context())
			if name == "result_overflow_mode" || name == "sort_overflow_mode" { // the columns alone are more
				require.ErrorContains(t, err, "code: 396")
				return
			}
			require.NoError(t, err)
			for try := range 3 {
				inserted, err := table.Insert(t.Context(), "token", rowsOf(rows))
				if name == "group_by_overflow_mode" || strings.HasPrefix(name, "read_overflow_mode") {
					require.ErrorContains(t, err, "while pushing to view")
					return
				}
				require.NoError(t, err)
				require.Equal(t, try == 0, inserted.Proven)
			}
			require.Equal(t, uint64(500), count(t, conn, "SELECT count() FROM "+name))
			require.Equal(t, uint64(500), count(t, conn, "SELECT sum(n) FROM "+name+"_target"))
			present, err := table.Present(t.Context(), keysOf(rows))
			if bounding[name] {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.NotContains(t, present, false)
			empty, err := table.Empty(t.Context())
			require.NoError(t, err)
			require.False(t, empty)
		})
	}
}

// A setting that the user may not change is refused at the start, each by its
// name; and so is a user who may not write or read, or not set anything.
func TestCheckRefusesConstraints(t *testing.T) {
	each := map[string]profile{
		"readonly": {settings: map[string]string{"readonly": "1"}},
		"writer":   {grants: []string{"INSERT ON default.*", "SELECT ON system.*"}},
		"reader":   {grants: []string{"SELECT ON *.*"}},
	}
	for name, settings := range adverse {
		if name == "implicit_transaction" {
			continue // without a Keeper the engine can't run a query with it
		}
		each["pinned_"+name] = profile{settings: map[string]string{name: settings[name]}, pinned: true}
	}
	cfg := engineWithUsers(t, each)
	require.NoError(t, connect(t, cfg).Exec(t.Context(), TableDDL(cfg)))
	for name := range each {
		cfg := cfg
		cfg.Username = name
		err := Check(t.Context(), connect(t, cfg), cfg)
		var unfit *UnfitError
		require.True(t, errors.As(err, &unfit), "%s: %v", name, err)
		setting, pinned := strings.CutPrefix(name, "pinned_")
		switch {
		case pinned:
			require.ErrorContains(t, err, "setting "+setting+":", name)
			require.Len(t, unfit.Problems, 1, err)
		case name == "writer":
			require.ErrorContains(t, err, "no SELECT on")
		case name == "reader":
			require.ErrorContains(t, err, "no INSERT on")
		default:
			require.Greater(t, len(unfit.Problems), 5)
		}
	}
}

// A swap copies all that is missing also for a user whose answers are cut short.
func TestNoProfileCutsACopyShort(t *testing.T) {
	cfg := engineWithUsers(t, map[string]profile{"short": {settings: map[string]string{"limit": "1"}}})
	conn := connect(t, cfg)
	other := cfg
	other.Table = "other"
	require.NoError(t, conn.Exec(t.Context(), TableDDL(cfg)))
	require.NoError(t, conn.Exec(t.Context(), TableDDL(other)))
	require.NoError(t, conn.Exec(t.Context(), "INSERT INTO events (workspaceID, sourceID, receivedAt, id)"+
		" SELECT 'acme', concat('source', toString(number)), 1700000000 + 3600 * number, toString(number) FROM numbers(20)"))
	short := cfg
	short.Username = "short"
	copied, err := NewSwap(connect(t, short), short, "other").CopyMissing(t.Context(), "swap", true, func(int, int, uint64) {})
	require.NoError(t, err)
	require.EqualValues(t, 20, copied)
	require.Equal(t, uint64(20), count(t, conn, "SELECT uniqExact(id) FROM other"))
}
