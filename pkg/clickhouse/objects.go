package clickhouse

import (
	"context"
	"log/slog"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditstream/auditstream/pkg/config"
)

// DefaultObjectsTable is the table of the ledger.
const DefaultObjectsTable = "auditstream_objects"

// layout is what tells one of our tables from another. Keys, TTL, engine and
// settings are the same in all of them: the sink's protocol needs them so.
type layout struct {
	columns  []Column
	comments map[string]string // of columns, by name
	indexes  []Index
}

var events = layout{columns: columns[:], indexes: indexes[:]}

// objects is the table of the ledger: of each object what it held, and what
// became of the lines that are not one row each. The comments are in the table,
// too.
var objects = layout{
	columns: []Column{
		{"workspaceID", "String", "ZSTD(1)"},
		{"sourceID", "String", "ZSTD(1)"},
		{"sourceTTL", "UInt32", "ZSTD(1)"},
		{"receivedAt", "DateTime", "DoubleDelta, ZSTD(1)"},
		{"id", "String", "ZSTD(1)"},
		{"kind", "LowCardinality(String)", "ZSTD(1)"},
		{"recordedAt", "DateTime", "Delta(4), ZSTD(1)"},
		{"object", "String", "ZSTD(1)"},
		{"endpoint", "LowCardinality(String)", "ZSTD(1)"},
		{"bucket", "LowCardinality(String)", "ZSTD(1)"},
		{"key", "String", "ZSTD(1)"},
		{"etag", "String", "ZSTD(1)"},
		{"version", "String", "ZSTD(1)"},
		{"size", "UInt64", "ZSTD(1)"},
		{"generation", "UInt32", "ZSTD(1)"},
		{"splitting", "LowCardinality(String)", "ZSTD(1)"},
		{"firstLine", "UInt64", "ZSTD(1)"},
		{"lines", "UInt64", "ZSTD(1)"},
		{"bytes", "UInt64", "ZSTD(1)"},
		{"stage", "LowCardinality(String)", "ZSTD(1)"},
		{"outcome", "LowCardinality(String)", "ZSTD(1)"},
		{"reason", "LowCardinality(String)", "ZSTD(1)"},
		{"ranges", "Array(Tuple(UInt64, UInt64))", "ZSTD(1)"},
		{"rows", "UInt64", "ZSTD(1)"},
		{"replayTable", "String", "ZSTD(1)"},
		{"replaySince", "DateTime64(3)", "ZSTD(1)"},
		{"replayUntil", "DateTime64(3)", "ZSTD(1)"},
	},
	comments: map[string]string{
		"receivedAt":  "when S3 received the object, as in its rows",
		"id":          "of the entry; begins with the object id",
		"kind":        "object: the end of a run through it; lines: those that are not one row each; replay: rows that were made again",
		"recordedAt":  "when the entry was made",
		"object":      "object id, the first 32 characters of its row ids",
		"endpoint":    "alias of the S3 endpoint",
		"size":        "bytes stored, as announced",
		"generation":  "raised by a deliberate retry",
		"splitting":   "lines, or JSON values",
		"firstLine":   "of an object: where this run through it began",
		"lines":       "of an object: number of its last line, blank ones and all",
		"bytes":       "of an object: decompressed, up to its last line",
		"stage":       "who recorded it",
		"outcome":     "of an object: complete or deadletter; of lines: deadletter, skip, or events (several rows each)",
		"reason":      "of a dead letter or a skip",
		"ranges":      "of lines: their numbers, from and to",
		"rows":        "of lines: rows that each of them gave",
		"replayTable": "of a replay: where its rows went",
		"replaySince": "of a replay: least receivedAt; 1970 is no bound",
		"replayUntil": "of a replay: receivedAt before which; 1970 is no bound",
	},
	indexes: []Index{
		{"idx_object", "object", "bloom_filter(0.01)"},
		{"idx_key", "key", "bloom_filter(0.01)"},
	},
}

// ofObjects is cfg with the ledger's table in place of the events'.
func ofObjects(cfg config.ClickHouse) config.ClickHouse {
	cfg.Table = cfg.ObjectsTable
	if cfg.Table == "" {
		cfg.Table = DefaultObjectsTable
	}
	return cfg
}

// ObjectsName is the ledger's database and table, defaults filled in.
func ObjectsName(cfg config.ClickHouse) (database, table string) { return TableName(ofObjects(cfg)) }

// CheckObjects is Check for the table of the ledger.
func CheckObjects(ctx context.Context, conn driver.Conn, cfg config.ClickHouse) error {
	return check(ctx, conn, ofObjects(cfg), &objects)
}

// ObjectsRow is one row of the ledger's table; the comments of its columns say
// what is in it.
type ObjectsRow struct {
	WorkspaceID, SourceID    string
	SourceTTL, ReceivedAt    uint32
	ID, Kind                 string
	RecordedAt               time.Time
	Object                   string
	Endpoint, Bucket, Key    string
	ETag, Version            string
	Size                     uint64
	Generation               uint32
	Splitting                string
	FirstLine, Lines, Bytes  uint64
	Stage, Outcome, Reason   string
	Ranges                   [][2]int64
	Rows                     uint64
	ReplayTable              string
	ReplaySince, ReplayUntil time.Time
}

// ObjectsTable is Table for the ledger.
type ObjectsTable struct{ *Table }

// OpenObjects opens the pools; it does not dial.
func OpenObjects(cfg config.ClickHouse, log *slog.Logger) (ObjectsTable, error) {
	table, err := openLayout(ofObjects(cfg), &objects, log)
	return ObjectsTable{table}, err
}

// Insert is Table.Insert for rows of the ledger. They are few, so the driver's
// own way in, by reflection, does.
func (t ObjectsTable) Insert(ctx context.Context, token string, rows []ObjectsRow) (Inserted, error) {
	return t.insertBlock(ctx, token, func(batch driver.Batch) (int, error) {
		if err := sameColumns(batch.Columns(), objects.columns); err != nil {
			return 0, err
		}
		for i := range rows {
			if err := rows[i].appendTo(batch); err != nil {
				return 0, err
			}
		}
		return len(rows), nil
	})
}

func (r *ObjectsRow) appendTo(batch driver.Batch) error {
	ranges := make([][]any, 0, len(r.Ranges))
	for _, lines := range r.Ranges {
		ranges = append(ranges, []any{uint64(lines[0]), uint64(lines[1])}) //nolint:gosec // lines count from 1
	}
	return batch.Append(
		r.WorkspaceID, r.SourceID, r.SourceTTL, time.Unix(int64(r.ReceivedAt), 0), r.ID, r.Kind, r.RecordedAt, r.Object,
		r.Endpoint, r.Bucket, r.Key, r.ETag, r.Version, r.Size, r.Generation, r.Splitting, r.FirstLine, r.Lines, r.Bytes,
		r.Stage, r.Outcome, r.Reason, ranges, r.Rows, r.ReplayTable, r.ReplaySince, r.ReplayUntil,
	)
}
