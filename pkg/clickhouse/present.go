package clickhouse

import (
	"context"
	"errors"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/ext"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// RowKey is what finds a row: the table's sorting key.
type RowKey struct {
	WorkspaceID, SourceID string
	ReceivedAt            uint32
	ID                    string
}

// presentKeys go into one question. Each is sent to the server, held there as a
// set, and read back if it is found.
const presentKeys = 50000

// Present tells for each key whether its row is in the table, counted as the
// parts are, without collapsing. On a replica it first waits for what other
// replicas have acknowledged.
func (t *Table) Present(ctx context.Context, keys []RowKey) (present []bool, err error) {
	server := t.server()
	defer func() { t.failed(server, err) }()
	if t.prepared.Load().replicated {
		if err := server.Exec(ctx, "SYSTEM SYNC REPLICA "+t.ref.String()+" LIGHTWEIGHT"); err != nil {
			return nil, fmt.Errorf("look up rows: wait for the other replicas' parts: %w", err)
		}
	}
	present = make([]bool, len(keys))
	for from := 0; from < len(keys); from += presentKeys {
		to := min(from+presentKeys, len(keys))
		if err := t.presentOn(ctx, server, keys[from:to], present[from:to]); err != nil {
			return nil, fmt.Errorf("look up rows: %w", err)
		}
	}
	return present, nil
}

// presentOn asks for one lot of keys, which it sends along as a table.
func (t *Table) presentOn(ctx context.Context, server driver.Conn, keys []RowKey, present []bool) error {
	wanted, err := ext.NewTable("wanted",
		ext.Column("workspaceID", "String"), ext.Column("sourceID", "String"),
		ext.Column("receivedAt", "DateTime"), ext.Column("id", "String"))
	if err != nil {
		return err
	}
	byID := make(map[RowKey]int, len(keys))
	var workspaces, sources, ids []string
	var times []int64
	first, last := keys[0].ReceivedAt, keys[0].ReceivedAt
	for i, key := range keys {
		byID[key] = i
		workspaces = append(workspaces, key.WorkspaceID)
		sources = append(sources, key.SourceID)
		times = append(times, int64(key.ReceivedAt))
		ids = append(ids, key.ID)
		first, last = min(first, key.ReceivedAt), max(last, key.ReceivedAt)
	}
	for i, values := range []any{workspaces, sources, times, ids} {
		if _, err := wanted.Block().Columns[i].Append(values); err != nil {
			return fmt.Errorf("send keys: %w", err)
		}
	}
	// The range prunes partitions, the tuple uses the primary key.
	query := fmt.Sprintf("SELECT DISTINCT workspaceID, sourceID, toUInt32(receivedAt), id FROM %s"+
		" WHERE receivedAt >= toDateTime(%d) AND receivedAt <= toDateTime(%d)"+
		" AND (workspaceID, sourceID, receivedAt, id) IN (SELECT workspaceID, sourceID, receivedAt, id FROM wanted)",
		t.ref, first, last)
	rows, err := server.Query(clickhouse.Context(ctx, clickhouse.WithSettings(t.prepared.Load().proofSettings), clickhouse.WithExternalTable(wanted)), query)
	if err != nil {
		return err
	}
	var key RowKey
	for rows.Next() {
		if err := rows.Scan(&key.WorkspaceID, &key.SourceID, &key.ReceivedAt, &key.ID); err != nil {
			return errors.Join(err, rows.Close())
		}
		i, asked := byID[key]
		if !asked {
			return errors.Join(fmt.Errorf("the server found %q, which was not asked for", key.ID), rows.Close())
		}
		present[i] = true
	}
	for i, key := range keys {
		present[i] = present[byID[key]]
	}
	return closeRows(rows)
}

// Empty reports whether the table holds no row at all.
func (t *Table) Empty(ctx context.Context) (empty bool, err error) {
	server := t.server()
	defer func() { t.failed(server, err) }()
	var rows uint64
	if err := server.QueryRow(clickhouse.Context(ctx, clickhouse.WithSettings(t.prepared.Load().proofSettings)),
		"SELECT count() FROM (SELECT 1 FROM "+t.ref.String()+" LIMIT 1)").Scan(&rows); err != nil {
		return false, fmt.Errorf("look whether table %s is empty: %w", t.ref, err)
	}
	return rows == 0, nil
}
