package clickhouse

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// holdPrefix begins the comment of a table that is held; the hold's id follows.
const holdPrefix = "auditstream hold "

// Hold reads the hold of the table, "" without one. Who writes to a held table
// finishes what it has begun, says so, and begins nothing until it is lifted.
//
// A hold is the table's comment, so that exchanging the table with another one
// lifts it in the same step.
func (t *Table) Hold(ctx context.Context) (id string, err error) {
	server := t.server()
	defer func() { t.failed(server, err) }()
	if prepared := t.prepared.Load(); prepared != nil {
		ctx = clickhouse.Context(ctx, clickhouse.WithSettings(prepared.proofSettings))
	}
	comment, found, err := commentOf(ctx, server, t.ref)
	if err == nil && !found {
		err = fmt.Errorf("look whether table %s is held: there is no such table", t.ref)
	}
	id, _ = strings.CutPrefix(comment, holdPrefix)
	if id == comment {
		id = ""
	}
	return id, err
}

func commentOf(ctx context.Context, conn driver.Conn, ref tableRef) (comment string, found bool, err error) {
	rows, err := conn.Query(ctx, "SELECT comment FROM system.tables WHERE database = "+quoteText(ref.database)+" AND name = "+quoteText(ref.name))
	if err != nil {
		return "", false, fmt.Errorf("read the comment of table %s: %w", ref, err)
	}
	for rows.Next() {
		found = true
		if err := rows.Scan(&comment); err != nil {
			_ = rows.Close()
			return "", false, fmt.Errorf("read the comment of table %s: %w", ref, err)
		}
	}
	if err := closeRows(rows); err != nil {
		return "", false, fmt.Errorf("read the comment of table %s: %w", ref, err)
	}
	return comment, found, nil
}
