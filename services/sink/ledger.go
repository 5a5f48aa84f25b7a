package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/topics"
)

// Ledger are the rows of the topic `ledger`.
func Ledger(cfg config.ClickHouse, log *slog.Logger) (Table, error) {
	opened, err := clickhouse.OpenObjects(cfg, log)
	if err != nil {
		return nil, err
	}
	return ledgerTable{opened}, nil
}

type ledgerTable struct{ clickhouse.ObjectsTable }

// RowID reads no more of the entry than its id, which is its first field.
func (ledgerTable) RowID(value []byte) (string, error) {
	var entry struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(value, &entry); err != nil {
		return "", fmt.Errorf("%w: ledger entry: %w", topics.ErrMalformed, err)
	}
	if entry.ID == "" {
		return "", fmt.Errorf("%w: ledger entry without id", topics.ErrMalformed)
	}
	return entry.ID, nil
}

func (ledgerTable) Keys(records []*kgo.Record) ([]clickhouse.RowKey, []time.Time, error) {
	rows, err := objectsRows(records)
	if err != nil {
		return nil, nil, err
	}
	keys := make([]clickhouse.RowKey, len(rows))
	expiries := make([]time.Time, len(rows))
	for i := range rows {
		row := &rows[i]
		keys[i] = clickhouse.RowKey{WorkspaceID: row.WorkspaceID, SourceID: row.SourceID, ReceivedAt: row.ReceivedAt, ID: row.ID}
		expiries[i] = expiryOf(row.ReceivedAt, row.SourceTTL)
	}
	return keys, expiries, nil
}

func (t ledgerTable) Insert(ctx context.Context, token string, records []*kgo.Record) (clickhouse.Inserted, error) {
	rows, err := objectsRows(records)
	if err != nil {
		return clickhouse.Inserted{}, err
	}
	return t.ObjectsTable.Insert(ctx, token, rows)
}

func objectsRows(records []*kgo.Record) ([]clickhouse.ObjectsRow, error) {
	rows := make([]clickhouse.ObjectsRow, len(records))
	for i, record := range records {
		entry, err := topics.DecodeLedgerEntry(record.Value)
		if err != nil {
			return nil, fmt.Errorf("record %s/%d at offset %d: %w", record.Topic, record.Partition, record.Offset, err)
		}
		rows[i] = objectsRow(&entry)
	}
	return rows, nil
}

// objectsRow is the entry as a row. Times are in whole seconds as in the rows
// of the object's lines.
func objectsRow(e *topics.LedgerEntry) clickhouse.ObjectsRow {
	row := clickhouse.ObjectsRow{
		WorkspaceID: e.Workspace, SourceID: e.Source, SourceTTL: e.TTLDays, ReceivedAt: uint32(min(e.ReceivedAt/1000, math.MaxUint32)), //nolint:gosec // bounded
		ID: e.ID, Kind: string(e.Kind), RecordedAt: time.UnixMilli(e.RecordedAt), Object: e.Object,
		Endpoint: e.Endpoint, Bucket: e.Bucket, Key: e.Key, ETag: e.ETag, Version: e.Version,
		Splitting: string(e.Splitting), Stage: e.Stage, Outcome: string(e.Outcome), Reason: e.Reason,
		Size: uint64(e.Size), Generation: uint32(e.Generation), //nolint:gosec // none of these is negative
		FirstLine: uint64(e.FirstLine), Lines: uint64(e.Lines), Bytes: uint64(e.Bytes), Rows: uint64(e.Rows), //nolint:gosec // same
		ReplayTable: e.Table, ReplaySince: time.UnixMilli(e.Since), ReplayUntil: time.UnixMilli(e.Until),
		Ranges: make([][2]int64, len(e.Ranges)),
	}
	for i, lines := range e.Ranges {
		row.Ranges[i] = lines
	}
	return row
}

// expiryOf is when the table may remove a row; zero: never.
func expiryOf(receivedAt, ttlDays uint32) time.Time {
	if ttlDays == 0 {
		return time.Time{}
	}
	return time.Unix(int64(receivedAt), 0).AddDate(0, 0, int(ttlDays))
}
