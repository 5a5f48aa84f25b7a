package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// requirement is a setting that a query of ours runs with, whatever the user's
// profile says.
type requirement struct {
	name  string
	value string
	// optional: servers before some version don't know it, and behave as wanted.
	optional bool
}

// wholeRequirements keep every row that a query reads: one of ours, and those
// of the views behind the table, which run with the settings of the insert. A
// limit, a filter, or an answer cut short would be a view that lacks rows, or
// rows inserted twice since they were not seen.
var wholeRequirements = []requirement{
	{name: "final", value: "0"},
	{name: "limit", value: "0"},
	{name: "offset", value: "0"},
	{name: "additional_table_filters", value: "{}"},
	{name: "additional_result_filter", value: ""},
	{name: "read_overflow_mode", value: "throw"},
	{name: "read_overflow_mode_leaf", value: "throw"},
	{name: "result_overflow_mode", value: "throw"},
	{name: "set_overflow_mode", value: "throw"},
	{name: "distinct_overflow_mode", value: "throw"},
	{name: "group_by_overflow_mode", value: "throw"},
	{name: "sort_overflow_mode", value: "throw"},
	{name: "join_overflow_mode", value: "throw"},
	{name: "transfer_overflow_mode", value: "throw"},
	// Running out of time is an error, never a shorter insert or answer.
	{name: "timeout_overflow_mode", value: "throw"},
	{name: "timeout_overflow_mode_leaf", value: "throw"},
	// A transaction of its own would go past the deduplication log.
	{name: "implicit_transaction", value: "0"},
}

// insertRequirements keep a batch one block from the wire to the part, and the
// token what decides whether it is a duplicate.
var insertRequirements = slices.Concat(wholeRequirements, []requirement{
	// An asynchronous insert is merged with others and its token ignored; from
	// 26 on it is the default.
	{name: "async_insert", value: "0"},
	{name: "insert_deduplicate", value: "1"},
	{name: "deduplicate_insert", value: "enable", optional: true},
	// Views behind the table drop the rows of a repeated block as the table does,
	// and fail the insert when they fail.
	{name: "deduplicate_blocks_in_dependent_materialized_views", value: "1"},
	{name: "materialized_views_ignore_errors", value: "0"},
	// A batch of backfill touches a partition for each month.
	{name: "max_partitions_per_insert_block", value: "0"},
	// No splitting: larger than any batch. No squashing, one thread: the parts of
	// a batch are one for each partition.
	{name: "max_insert_block_size", value: "1000000000"},
	{name: "max_insert_block_size_bytes", value: "0", optional: true},
	{name: "min_insert_block_size_rows", value: "0"},
	{name: "min_insert_block_size_bytes", value: "0"},
	{name: "max_insert_threads", value: "1"},
	// Rows are written as they come; duplicates within a batch are already gone.
	{name: "optimize_on_insert", value: "0"},
	// The events carry the number of duplicates.
	{name: "send_profile_events", value: "1", optional: true},
})

// proofRequirements make the answer to "which of these rows are there" whole
// and current: an answer cut short would have rows inserted twice.
var proofRequirements = slices.Concat(wholeRequirements, []requirement{
	{name: "use_query_cache", value: "0"},
	// It remembers what an earlier question with the same text did not find.
	{name: "use_query_condition_cache", value: "0", optional: true},
	{name: "select_sequential_consistency", value: "1"},
	{name: "enable_parallel_replicas", value: "0", optional: true},
})

func settingsOf(requirements []requirement, known map[string]bool) clickhouse.Settings {
	settings := make(clickhouse.Settings, len(requirements)+1)
	for _, r := range requirements {
		if !r.optional || known[r.name] {
			settings[r.name] = r.value
		}
	}
	return settings
}

// knownSettings are those of the optional ones that the server has. With a
// user who may not set what a question needs it may be less than all of them.
func knownSettings(ctx context.Context, conn driver.Conn) (map[string]bool, error) {
	rows, err := conn.Query(asking(ctx, nil), "SELECT name FROM system.settings")
	if settingRefused(err) {
		rows, err = conn.Query(ctx, "SELECT name FROM system.settings")
		var exception *clickhouse.Exception
		if errors.As(err, &exception) {
			return nil, nil // refusedSettings will say which it is
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the server's settings: %w", err)
	}
	known := make(map[string]bool)
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			_ = rows.Close()
			return nil, fmt.Errorf("read the server's settings: %w", err)
		}
		known[name] = true
	}
	if err := closeRows(rows); err != nil {
		return nil, fmt.Errorf("read the server's settings: %w", err)
	}
	return known, nil
}

// asking is ctx for questions whose answer must be whole, whatever the profile
// says of limits and filters.
func asking(ctx context.Context, known map[string]bool) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithSettings(settingsOf(proofRequirements, known)))
}

// refusedSetting is one that the user may not set.
type refusedSetting struct {
	name    string
	problem Problem
}

// asks reports whether questions need the setting.
func (s refusedSetting) asks() bool {
	return slices.ContainsFunc(proofRequirements, func(r requirement) bool { return r.name == s.name })
}

// refusedSettings tries each required setting and reports those that the user
// may not set: a profile's constraint would void what the setting is for. An
// error is a server that can't be asked.
func refusedSettings(ctx context.Context, conn driver.Conn, known map[string]bool) ([]refusedSetting, error) {
	wanted := settingsOf(insertRequirements, known)
	maps.Copy(wanted, settingsOf(proofRequirements, known))
	wanted["insert_deduplication_token"] = "check"
	together := conn.Exec(clickhouse.Context(ctx, clickhouse.WithSettings(wanted)), "SELECT 1")
	if together == nil {
		return nil, nil
	}
	var refused []refusedSetting
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		value := wanted[name]
		err := conn.Exec(clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{name: value})), "SELECT 1")
		var exception *clickhouse.Exception
		if settingRefused(err) && errors.As(err, &exception) {
			refused = append(refused, refusedSetting{name, Problem{
				Subject: "setting " + name,
				Found:   fmt.Sprintf("the server refuses %s = %v for this user: %s", name, value, exception.Message),
				Mend:    fmt.Sprintf("remove the constraint on %s from the user's profile, or readonly", name),
			}})
		}
	}
	if refused == nil {
		return nil, fmt.Errorf("check settings: %w", together)
	}
	return refused, nil
}

// settingRefused tells an error about a setting from others of the server, such
// as one that has no memory just now.
func settingRefused(err error) bool {
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) {
		return false
	}
	switch exception.Code {
	case 36, 115, 164, 344, 452: // BAD_ARGUMENTS, UNKNOWN_SETTING, READONLY, SUPPORT_IS_DISABLED, SETTING_CONSTRAINT_VIOLATION
		return true
	}
	return false
}
