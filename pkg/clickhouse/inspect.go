package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// tableState is what the server says of one table.
type tableState struct {
	database, name string
	engine         string
	engineFull     string
	createQuery    string
	partitionKey   string
	sortingKey     string
	uuid           string
	dependents     []tableRef // materialized views that read from it
	columns        []columnState
	indexes        map[string]Index
}

type tableRef struct{ database, name string }

func (t tableRef) String() string { return Quote(t.database) + "." + Quote(t.name) }

type columnState struct {
	name, typeName, defaultKind, codec string
}

// inspect reads the table's state; found is false when there is no such table.
func inspect(ctx context.Context, conn driver.Conn, ref tableRef) (state tableState, found bool, err error) {
	state = tableState{database: ref.database, name: ref.name, indexes: map[string]Index{}}
	var databases, tables []string
	rows, err := conn.Query(ctx, "SELECT engine, engine_full, create_table_query, partition_key, sorting_key, toString(uuid),"+
		" dependencies_database, dependencies_table FROM system.tables WHERE database = "+quoteText(ref.database)+" AND name = "+quoteText(ref.name))
	if err != nil {
		return state, false, fmt.Errorf("inspect table %s: %w", ref, err)
	}
	for rows.Next() {
		found = true
		if err := rows.Scan(&state.engine, &state.engineFull, &state.createQuery, &state.partitionKey, &state.sortingKey,
			&state.uuid, &databases, &tables); err != nil {
			_ = rows.Close()
			return state, false, fmt.Errorf("inspect table %s: %w", ref, err)
		}
	}
	if err := closeRows(rows); err != nil {
		return state, false, fmt.Errorf("inspect table %s: %w", ref, err)
	}
	for i := range tables {
		state.dependents = append(state.dependents, tableRef{databases[i], tables[i]})
	}
	if !found {
		return state, false, nil
	}
	if err := state.readColumns(ctx, conn, ref); err != nil {
		return state, false, err
	}
	return state, true, state.readIndexes(ctx, conn, ref)
}

func (t *tableState) readColumns(ctx context.Context, conn driver.Conn, ref tableRef) error {
	rows, err := conn.Query(ctx, "SELECT name, type, default_kind, compression_codec FROM system.columns WHERE database = "+
		quoteText(ref.database)+" AND table = "+quoteText(ref.name)+" ORDER BY position")
	if err != nil {
		return fmt.Errorf("inspect columns of %s: %w", ref, err)
	}
	for rows.Next() {
		var column columnState
		if err := rows.Scan(&column.name, &column.typeName, &column.defaultKind, &column.codec); err != nil {
			_ = rows.Close()
			return fmt.Errorf("inspect columns of %s: %w", ref, err)
		}
		t.columns = append(t.columns, column)
	}
	if err := closeRows(rows); err != nil {
		return fmt.Errorf("inspect columns of %s: %w", ref, err)
	}
	return nil
}

func (t *tableState) readIndexes(ctx context.Context, conn driver.Conn, ref tableRef) error {
	rows, err := conn.Query(ctx, "SELECT name, expr, type_full FROM system.data_skipping_indices WHERE database = "+
		quoteText(ref.database)+" AND table = "+quoteText(ref.name))
	if err != nil {
		return fmt.Errorf("inspect indexes of %s: %w", ref, err)
	}
	for rows.Next() {
		var index Index
		if err := rows.Scan(&index.Name, &index.Expression, &index.Type); err != nil {
			_ = rows.Close()
			return fmt.Errorf("inspect indexes of %s: %w", ref, err)
		}
		t.indexes[index.Name] = index
	}
	if err := closeRows(rows); err != nil {
		return fmt.Errorf("inspect indexes of %s: %w", ref, err)
	}
	return nil
}

// closeRows ends a result and returns what went wrong while it was read.
func closeRows(rows driver.Rows) error {
	err := rows.Err()
	if closeErr := rows.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (t *tableState) replicated() bool { return strings.HasPrefix(t.engine, "Replicated") }
func (t *tableState) shared() bool     { return strings.HasPrefix(t.engine, "Shared") }

// baseEngine is the engine without where its parts are kept.
func (t *tableState) baseEngine() string {
	return strings.TrimPrefix(strings.TrimPrefix(t.engine, "Replicated"), "Shared")
}

func (t *tableState) mergeTree() bool { return strings.HasSuffix(t.engine, "MergeTree") }

var settingPattern = regexp.MustCompile(`[A-Za-z_0-9]+ = [^,]+`)

// setting is the value of a MergeTree setting: the table's own, else the
// server's default for tables of its kind.
func (t *tableState) setting(ctx context.Context, conn driver.Conn, name string) (int64, error) {
	if _, text, found := strings.Cut(t.engineFull, " SETTINGS "); found {
		for _, pair := range settingPattern.FindAllString(text, -1) {
			key, value, _ := strings.Cut(pair, " = ")
			if key == name {
				return parseSetting(name, value)
			}
		}
	}
	source := "system.merge_tree_settings"
	if t.replicated() || t.shared() {
		source = "system.replicated_merge_tree_settings"
	}
	var value string
	if err := conn.QueryRow(ctx, "SELECT value FROM "+source+" WHERE name = "+quoteText(name)).Scan(&value); err != nil {
		return 0, fmt.Errorf("inspect setting %s of %s.%s: %w", name, Quote(t.database), Quote(t.name), err)
	}
	return parseSetting(name, value)
}

func parseSetting(name, value string) (int64, error) {
	number, err := strconv.ParseInt(strings.Trim(strings.TrimSpace(value), "'"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("setting %s: %w", name, err)
	}
	return number, nil
}

// ttlText is the table's TTL clause as the server formats it, "" without one.
func (t *tableState) ttlText() string {
	_, text, found := strings.Cut(t.engineFull, " TTL ")
	if !found {
		return ""
	}
	text, _, _ = strings.Cut(text, " SETTINGS ")
	return text
}

var viewTarget = regexp.MustCompile("^(?:CREATE|ATTACH) MATERIALIZED VIEW .+? TO ((?:`(?:[^`\\\\]|\\\\.)*`|[A-Za-z_0-9]+)(?:\\.(?:`(?:[^`\\\\]|\\\\.)*`|[A-Za-z_0-9]+))?)")

// target is the table that a materialized view writes to. ok is false for one
// that does not follow inserts (a refreshable view).
func (t *tableState) target(ctx context.Context, conn driver.Conn) (ref tableRef, ok bool, err error) {
	head, _, _ := strings.Cut(t.createQuery, " AS SELECT ")
	if strings.Contains(head, " REFRESH ") {
		return tableRef{}, false, nil
	}
	// Later versions say it; 25.8 leaves it to be worked out.
	err = conn.QueryRow(ctx, "SELECT target_database, target_table FROM system.tables WHERE database = "+
		quoteText(t.database)+" AND name = "+quoteText(t.name)).Scan(&ref.database, &ref.name)
	var exception *clickhouse.Exception
	switch {
	case err == nil && ref.name != "":
		return ref, true, nil
	case err != nil && !errors.As(err, &exception):
		return ref, false, fmt.Errorf("inspect view %s.%s: %w", Quote(t.database), Quote(t.name), err)
	}
	if match := viewTarget.FindStringSubmatch(head); match != nil {
		parts := splitIdentifier(match[1])
		if len(parts) == 1 {
			return tableRef{t.database, parts[0]}, true, nil
		}
		return tableRef{parts[0], parts[1]}, true, nil
	}
	if t.uuid != "" && t.uuid != "00000000-0000-0000-0000-000000000000" {
		return tableRef{t.database, ".inner_id." + t.uuid}, true, nil
	}
	return tableRef{t.database, ".inner." + t.name}, true, nil
}

// splitIdentifier takes an identifier of one or two parts apart and unquotes them.
func splitIdentifier(text string) []string {
	var parts []string
	var current strings.Builder
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quoted && i+1 < len(text):
			i++
			current.WriteByte(text[i])
		case c == '`':
			quoted = !quoted
		case c == '.' && !quoted:
			parts = append(parts, current.String())
			current.Reset()
		default:
			current.WriteByte(c)
		}
	}
	return append(parts, current.String())
}
