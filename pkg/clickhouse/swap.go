package clickhouse

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditstream/auditstream/pkg/config"
)

// replacedPrefix begins the comment of a table that another one has taken the
// place of; the hold's id follows.
const replacedPrefix = "auditstream replaced by "

// Swap is a table and the one that is to take its place.
type Swap struct {
	conn    driver.Conn
	live    tableRef
	other   tableRef
	liveCfg config.ClickHouse
	proven  map[hour]fingerprint // of the live table, of which the other one has all
}

// NewSwap is about cfg's table and another one of its database.
func NewSwap(conn driver.Conn, cfg config.ClickHouse, other string) *Swap {
	database, table := TableName(cfg)
	return &Swap{conn: conn, live: tableRef{database, table}, other: tableRef{database, other}, liveCfg: cfg, proven: make(map[hour]fingerprint)}
}

// Live and Other name the tables.
func (s *Swap) Live() string { return s.live.database + "." + s.live.name }

// Other is the name of the table that is to take the live one's place.
func (s *Swap) Other() string { return s.other.database + "." + s.other.name }

// Check finds what makes exchanging the tables impossible or unsafe. An error is
// a server that could not be asked.
func (s *Swap) Check(ctx context.Context) (problem string, err error) {
	if s.liveCfg.Cluster != "" || len(s.liveCfg.Addresses) > 1 {
		return fmt.Sprintf("table %s is on several servers, and they can't exchange their tables at one moment: a sink that turns to another server in between would write to the old one", s.Live()), nil
	}
	var engine string
	if err := s.conn.QueryRow(ctx, "SELECT engine FROM system.databases WHERE name = "+quoteText(s.live.database)).Scan(&engine); err != nil {
		return "", fmt.Errorf("read the engine of database %s: %w", s.live.database, err)
	}
	// Overlay is what the embedded engine puts over an Atomic database; over any
	// other EXCHANGE is refused.
	if engine != "Atomic" && engine != "Overlay" {
		return fmt.Sprintf("database %s has the engine %s; only Atomic exchanges tables at one moment", s.live.database, engine), nil
	}
	for _, ref := range []tableRef{s.live, s.other} {
		state, found, err := inspect(ctx, s.conn, ref)
		if err != nil {
			return "", err
		}
		if !found {
			if ref == s.live {
				return fmt.Sprintf("there is no table %s", ref), nil
			}
			continue
		}
		switch {
		case state.replicated() || state.shared():
			return fmt.Sprintf("table %s has the engine %s, and its replicas can't exchange their tables at one moment", ref, state.engine), nil
		case !state.mergeTree():
			return fmt.Sprintf("table %s has the engine %s", ref, state.engine), nil
		}
		known := make(map[string]bool, len(columns))
		for _, column := range columns {
			known[column.Name] = true
		}
		for _, column := range state.columns {
			if !known[column.name] {
				return fmt.Sprintf("table %s has the column %s, which is not auditstream's, and whose values would not be copied: drop it, or replay without --swap", ref, column.name), nil
			}
		}
		for _, dependent := range state.dependents {
			view, found, err := inspect(ctx, s.conn, dependent)
			if err != nil {
				return "", err
			}
			if found && view.engine == "MaterializedView" {
				return fmt.Sprintf("the materialized view %s follows what is inserted into %s: it would see the copied rows again, and then no more: drop it, and make it anew after the swap", dependent, ref), nil
			}
		}
	}
	return "", nil
}

// State is how far a swap is, by the tables' comments alone.
type State struct {
	Hold      string // on the live table
	Exchanged string // the hold that has moved with the old table to the other name
	Replaced  string // the same, and nothing is left to do
}

// State reads the comments.
func (s *Swap) State(ctx context.Context) (State, error) {
	var state State
	live, found, err := commentOf(ctx, s.conn, s.live)
	if err == nil && !found {
		err = fmt.Errorf("there is no table %s", s.live)
	}
	if err != nil {
		return state, err
	}
	state.Hold = after(live, holdPrefix)
	if s.other.name == "" {
		return state, nil
	}
	other, _, err := commentOf(ctx, s.conn, s.other)
	state.Exchanged, state.Replaced = after(other, holdPrefix), after(other, replacedPrefix)
	return state, err
}

func after(text, prefix string) string {
	rest, found := strings.CutPrefix(text, prefix)
	if !found {
		return ""
	}
	return rest
}

// SetHold holds the live table, or with "" lifts the hold.
func (s *Swap) SetHold(ctx context.Context, id string) error {
	comment := ""
	if id != "" {
		comment = holdPrefix + id
	}
	return s.comment(ctx, s.live, comment)
}

// MarkReplaced says on the old table, which has the other's name now, that the
// swap is over.
func (s *Swap) MarkReplaced(ctx context.Context, id string) error {
	return s.comment(ctx, s.other, replacedPrefix+id)
}

func (s *Swap) comment(ctx context.Context, ref tableRef, comment string) error {
	if err := s.conn.Exec(ctx, "ALTER TABLE "+ref.String()+" MODIFY COMMENT "+quoteText(comment)); err != nil {
		return fmt.Errorf("set the comment of table %s: %w", ref, err)
	}
	return nil
}

// Exchange puts the other table in the live one's place, and the live one,
// with its comment, in the other's, at one moment.
func (s *Swap) Exchange(ctx context.Context) error {
	if err := s.conn.Exec(ctx, "EXCHANGE TABLES "+s.live.String()+" AND "+s.other.String()); err != nil {
		return fmt.Errorf("exchange %s and %s: %w", s.live, s.other, err)
	}
	return nil
}

// OtherWorkspace is a workspace that the table has rows of the source under,
// other than the one given; nil when there is none.
func OtherWorkspace(ctx context.Context, conn driver.Conn, cfg config.ClickHouse, source, workspace string) (*string, error) {
	database, table := TableName(cfg)
	rows, err := conn.Query(ctx, "SELECT workspaceID FROM "+tableRef{database, table}.String()+
		" WHERE workspaceID != "+quoteText(workspace)+" AND sourceID = "+quoteText(source)+" LIMIT 1")
	if err != nil {
		return nil, fmt.Errorf("look for the workspaces of source %s: %w", source, err)
	}
	var found *string
	for rows.Next() {
		var other string
		if err := rows.Scan(&other); err != nil {
			_ = rows.Close()
			return nil, fmt.Errorf("look for the workspaces of source %s: %w", source, err)
		}
		found = &other
	}
	if err := closeRows(rows); err != nil {
		return nil, fmt.Errorf("look for the workspaces of source %s: %w", source, err)
	}
	return found, nil
}

// HoldsRows tells whether the table is there and holds a row.
func (t *Table) HoldsRows(ctx context.Context) (bool, error) {
	server := t.server()
	_, found, err := inspect(ctx, server, t.ref)
	if err != nil || !found {
		return false, err
	}
	var rows uint64
	if err := server.QueryRow(ctx, "SELECT count() FROM (SELECT 1 FROM "+t.ref.String()+" LIMIT 1)").Scan(&rows); err != nil {
		return false, fmt.Errorf("look whether table %s is empty: %w", t.ref, err)
	}
	return rows > 0, nil
}
