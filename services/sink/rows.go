package sink

import (
	"context"
	"fmt"
	"log/slog"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/topics"
)

// Table is where the records of a topic become rows: it knows their encoding
// and the table that holds them.
type Table interface {
	// RowID finds the id of a record's row. It points into the value.
	RowID(value []byte) (string, error)
	// Keys are what finds the records' rows, and when each expires there (zero:
	// never).
	Keys(records []*kgo.Record) ([]clickhouse.RowKey, []time.Time, error)
	// Insert sends the records' rows as one block under the token.
	Insert(ctx context.Context, token string, records []*kgo.Record) (clickhouse.Inserted, error)
	// Present tells which rows are there, as the parts are.
	Present(ctx context.Context, keys []clickhouse.RowKey) ([]bool, error)
	// Running tells whether an insert under the token is still under way, and asks
	// it to end.
	Running(ctx context.Context, token string) (bool, error)
	// Name is database and table.
	Name() string
	// HasViews reports materialized views behind the table.
	HasViews() bool
	// Hold is the hold on the table, "" without one.
	Hold(ctx context.Context) (string, error)
	// Prepare checks that the table can be written exactly once.
	Prepare(ctx context.Context) error
	Empty(ctx context.Context) (bool, error)
	Close() error
}

// Rows opens the table of one kind of rows; it dials nothing.
type Rows func(cfg config.ClickHouse, log *slog.Logger) (Table, error)

// Events are the rows of the topic `normalized`.
func Events(cfg config.ClickHouse, log *slog.Logger) (Table, error) {
	opened, err := clickhouse.OpenTable(cfg, log)
	if err != nil {
		return nil, err
	}
	return eventTable{opened}, nil
}

type eventTable struct{ *clickhouse.Table }

func (t eventTable) Insert(ctx context.Context, token string, records []*kgo.Record) (clickhouse.Inserted, error) {
	return t.Table.Insert(ctx, token, &eventRows{records: records})
}

// fieldID is the number of the row id in normalized.proto.
const fieldID = 6

// RowID finds the id without decoding the rest: it is among the first fields.
func (eventTable) RowID(value []byte) (string, error) {
	for rest := value; len(rest) > 0; {
		field, wireType, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return "", fmt.Errorf("%w: %w", topics.ErrMalformed, protowire.ParseError(n))
		}
		rest = rest[n:]
		if field == fieldID && wireType == protowire.BytesType {
			id, n := protowire.ConsumeBytes(rest)
			if n < 0 || len(id) == 0 {
				return "", fmt.Errorf("%w: bad row id", topics.ErrMalformed)
			}
			return unsafe.String(unsafe.SliceData(id), len(id)), nil
		}
		if n = protowire.ConsumeFieldValue(field, wireType, rest); n < 0 {
			return "", fmt.Errorf("%w: %w", topics.ErrMalformed, protowire.ParseError(n))
		}
		rest = rest[n:]
	}
	return "", fmt.Errorf("%w: event without id", topics.ErrMalformed)
}

func (eventTable) Keys(records []*kgo.Record) ([]clickhouse.RowKey, []time.Time, error) {
	keys := make([]clickhouse.RowKey, 0, len(records))
	expiries := make([]time.Time, 0, len(records))
	var row event.Row
	rows := eventRows{records: records}
	for {
		more, err := rows.Next(&row)
		if err != nil || !more {
			return keys, expiries, err
		}
		keys = append(keys, clickhouse.RowKey{
			WorkspaceID: row.WorkspaceID, SourceID: row.SourceID, ReceivedAt: row.ReceivedAt, ID: row.ID,
		})
		expiries = append(expiries, expiryOf(row.ReceivedAt, row.SourceTTL))
	}
}

// eventRows hands the rows of records to an insert.
type eventRows struct {
	records []*kgo.Record
	next    int
}

func (r *eventRows) Next(row *event.Row) (bool, error) {
	if r.next == len(r.records) {
		return false, nil
	}
	record := r.records[r.next]
	r.next++
	if err := topics.DecodeNormalized(record.Value, row); err != nil {
		return false, fmt.Errorf("record %s/%d at offset %d: %w", record.Topic, record.Partition, record.Offset, err)
	}
	return true, nil
}
