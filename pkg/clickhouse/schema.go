package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditstream/auditstream/pkg/config"
)

// ErrConflict is a table that Apply would have to drop or rewrite something of.
var ErrConflict = errors.New("the table differs in what can't be changed in place")

// Difference is one way in which the table there is not the table wanted.
type Difference struct {
	Subject string // "table", "column verb", "index idx_auditID", "setting …"
	Have    string // "" when missing
	Want    string
	// Statement makes it right without touching rows that are there. Empty: it
	// can't be made right in place, and Advice says what to do.
	Statement string
	Advice    string
}

// Conflict is true when Apply refuses to make it right.
func (d Difference) Conflict() bool { return d.Statement == "" }

func (d Difference) String() string {
	have := d.Have
	if have == "" {
		have = "missing"
	}
	text := fmt.Sprintf("%s: is %s, want %s", d.Subject, have, d.Want)
	if d.Statement != "" {
		return text + "; to change: " + d.Statement
	}
	return text + "; " + d.Advice
}

// Diff compares the tables with the DDL. No difference, no result.
func Diff(ctx context.Context, conn driver.Conn, cfg config.ClickHouse) ([]Difference, error) {
	database, _ := TableName(cfg)
	var databases uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM system.databases WHERE name = "+quoteText(database)).Scan(&databases); err != nil {
		return nil, fmt.Errorf("diff schema: %w", err)
	}
	var differences []Difference
	if databases == 0 {
		differences = append(differences, Difference{Subject: "database " + database, Want: "a database", Statement: DatabaseDDL(cfg)})
	}
	rows, err := diffTable(ctx, conn, cfg, &events)
	if err != nil {
		return nil, err
	}
	ledger, err := diffTable(ctx, conn, ofObjects(cfg), &objects)
	if err != nil {
		return nil, err
	}
	for i := range ledger {
		if _, table := TableName(ofObjects(cfg)); ledger[i].Subject != "table "+table {
			ledger[i].Subject = table + ", " + ledger[i].Subject
		}
	}
	differences = slices.Concat(differences, rows, ledger)
	for _, one := range []struct {
		cfg    config.ClickHouse
		layout *layout
	}{{cfg, &events}, {ofObjects(cfg), &objects}} {
		all, err := diffDistributed(ctx, conn, one.cfg, one.layout)
		if err != nil {
			return nil, err
		}
		differences = append(differences, all...)
	}
	// Last: what the table lacks is there when the view is made.
	view, err := diffView(ctx, conn, cfg)
	if err != nil {
		return nil, fmt.Errorf("diff schema: %w", err)
	}
	return append(differences, view...), nil
}

// diffTable compares one table with its layout.
func diffTable(ctx context.Context, conn driver.Conn, cfg config.ClickHouse, l *layout) ([]Difference, error) {
	database, table := TableName(cfg)
	state, found, err := inspect(ctx, conn, tableRef{database, table})
	if err != nil {
		return nil, fmt.Errorf("diff schema: %w", err)
	}
	if !found {
		return []Difference{{Subject: "table " + table, Want: "a table", Statement: tableDDL(cfg, l)}}, nil
	}
	differences := diffColumns(cfg, l, &state)
	differences = append(differences, diffIndexes(cfg, l, &state)...)
	differences = append(differences, diffEngine(cfg, &state)...)
	settings, err := diffSettings(ctx, conn, cfg, &state)
	return append(differences, settings...), err
}

func alter(cfg config.ClickHouse, change string) string {
	return "ALTER TABLE " + qualified(cfg) + onCluster(cfg) + " " + change
}

func diffColumns(cfg config.ClickHouse, l *layout, state *tableState) []Difference {
	var differences []Difference
	have := make(map[string]columnState, len(state.columns))
	for _, column := range state.columns {
		have[column.name] = column
	}
	place := "FIRST"
	order := make([]string, 0, len(l.columns))
	for _, want := range l.columns {
		subject := "column " + want.Name
		column, found := have[want.Name]
		switch {
		case !found:
			differences = append(differences, Difference{
				Subject: subject, Want: want.Type,
				Statement: alter(cfg, "ADD COLUMN IF NOT EXISTS "+l.columnDDL(want)+" "+place),
			})
		case column.typeName != want.Type:
			differences = append(differences, Difference{
				Subject: subject, Have: column.typeName, Want: want.Type,
				Advice: "copy the rows into a table with the right type, or try: " + alter(cfg, "MODIFY COLUMN "+l.columnDDL(want)),
			})
		case column.defaultKind == "MATERIALIZED" || column.defaultKind == "ALIAS" || column.defaultKind == "EPHEMERAL":
			differences = append(differences, Difference{
				Subject: subject, Have: column.defaultKind, Want: "an ordinary column",
				Advice: "it can't be inserted; try: " + alter(cfg, "MODIFY COLUMN "+Quote(want.Name)+" REMOVE "+column.defaultKind),
			})
		default:
			if codec := "CODEC(" + want.Codec + ")"; column.codec != codec {
				differences = append(differences, Difference{
					Subject: subject, Have: orNone(column.codec), Want: codec,
					Statement: alter(cfg, "MODIFY COLUMN "+l.columnDDL(want)),
				})
			}
		}
		if found {
			order = append(order, want.Name)
		}
		place = "AFTER " + Quote(want.Name)
	}
	return append(differences, diffOrder(cfg, state, order)...)
}

// diffOrder finds the first column that is not at its place among the known
// ones. Inserts name their columns, so the order matters to readers only.
func diffOrder(cfg config.ClickHouse, state *tableState, want []string) []Difference {
	known := make(map[string]bool, len(want))
	for _, name := range want {
		known[name] = true
	}
	i := 0
	for _, column := range state.columns {
		if !known[column.name] {
			continue
		}
		if column.name != want[i] {
			place := "FIRST"
			if i > 0 {
				place = "AFTER " + Quote(want[i-1])
			}
			return []Difference{{
				Subject: "order of columns", Have: column.name, Want: want[i],
				Advice: "try: " + alter(cfg, "MODIFY COLUMN "+Quote(want[i])+" "+place),
			}}
		}
		i++
	}
	return nil
}

func diffIndexes(cfg config.ClickHouse, l *layout, state *tableState) []Difference {
	var differences []Difference
	for _, want := range l.indexes {
		have, found := state.indexes[want.Name]
		switch {
		case !found:
			differences = append(differences, Difference{
				Subject: "index " + want.Name, Want: want.Expression + " " + want.Type,
				Statement: alter(cfg, "ADD "+strings.Replace(indexDDL(want), "INDEX ", "INDEX IF NOT EXISTS ", 1)),
			})
		case have.Type != want.Type:
			differences = append(differences, Difference{
				Subject: "index " + want.Name, Have: have.Type, Want: want.Type,
				Advice: "drop it, run schema apply, and MATERIALIZE INDEX for the rows that are there",
			})
		}
	}
	return differences
}

func diffEngine(cfg config.ClickHouse, state *tableState) []Difference {
	const rebuild = "a table can't change this: create one under another name with schema print, copy the rows, and exchange the two"
	var differences []Difference
	if state.baseEngine() != "ReplacingMergeTree" || strings.HasPrefix(state.engineFull, "ReplacingMergeTree(") {
		differences = append(differences, Difference{
			Subject: "engine", Have: firstWords(state.engineFull, state.engine), Want: "ReplacingMergeTree without parameters", Advice: rebuild,
		})
	}
	if cfg.Cluster != "" && !state.replicated() && !state.shared() {
		differences = append(differences, Difference{
			Subject: "engine", Have: state.engine, Want: "ReplicatedReplacingMergeTree, since clickhouse.cluster is set", Advice: rebuild,
		})
	}
	if state.partitionKey != partitionKey {
		differences = append(differences, Difference{Subject: "partition key", Have: orNone(state.partitionKey), Want: partitionKey, Advice: rebuild})
	}
	if state.sortingKey != sortingKey {
		differences = append(differences, Difference{Subject: "sorting key", Have: orNone(state.sortingKey), Want: sortingKey, Advice: rebuild})
	}
	if want := ttl + " WHERE " + ttlCondition; state.ttlText() != want {
		differences = append(differences, Difference{
			Subject: "TTL", Have: orNone(state.ttlText()), Want: want,
			Advice: "it decides what is deleted, so run it yourself: " + alter(cfg, "MODIFY TTL "+ttl+" DELETE WHERE "+ttlCondition),
		})
	}
	return differences
}

// diffSettings reports a deduplication window below the one wanted.
func diffSettings(ctx context.Context, conn driver.Conn, cfg config.ClickHouse, state *tableState) ([]Difference, error) {
	if !state.mergeTree() {
		return nil, nil
	}
	var differences []Difference
	for _, window := range windowsOf(state) {
		have, err := state.setting(ctx, conn, window.setting)
		if err != nil {
			return nil, fmt.Errorf("diff schema: %w", err)
		}
		if have < window.want {
			differences = append(differences, Difference{
				Subject: "setting " + window.setting, Have: fmt.Sprint(have), Want: fmt.Sprint(window.want),
				Statement: alter(cfg, fmt.Sprintf("MODIFY SETTING %s = %d", window.setting, window.want)),
			})
		}
	}
	return differences, nil
}

type window struct {
	setting        string
	want, smallest int64
}

func windowsOf(state *tableState) []window {
	if state.replicated() || state.shared() {
		return []window{
			{"replicated_deduplication_window", deduplicationWindow, smallestWindow},
			{"replicated_deduplication_window_seconds", deduplicationWindowSeconds, smallestWindowSeconds},
		}
	}
	return []window{{"non_replicated_deduplication_window", deduplicationWindow, smallestWindow}}
}

// Apply creates what is missing and changes what can be changed without
// touching rows, and returns what it did. It never drops anything. Conflicts
// are left alone and returned, all of them, in an error that wraps ErrConflict.
func Apply(ctx context.Context, conn driver.Conn, cfg config.ClickHouse) (applied []Difference, err error) {
	differences, err := Diff(ctx, conn, cfg)
	if err != nil {
		return nil, err
	}
	var conflicts []string
	for _, difference := range differences {
		if difference.Conflict() {
			conflicts = append(conflicts, difference.String())
			continue
		}
		if err := conn.Exec(ctx, difference.Statement); err != nil {
			return applied, fmt.Errorf("apply schema: %s: %w", difference.Subject, err)
		}
		applied = append(applied, difference)
	}
	if conflicts != nil {
		return applied, fmt.Errorf("apply schema: %w:\n  %s", ErrConflict, strings.Join(conflicts, "\n  "))
	}
	return applied, nil
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// firstWords is the engine with its parameters, as the server formats it.
func firstWords(engineFull, engine string) string {
	for _, end := range []string{" PARTITION BY ", " ORDER BY ", " PRIMARY KEY ", " TTL ", " SETTINGS "} {
		engineFull, _, _ = strings.Cut(engineFull, end)
	}
	if engineFull == "" {
		return engine
	}
	return engineFull
}
