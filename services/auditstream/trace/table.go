package trace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/topics"
)

// tableRows is what the table has of a line or an object.
type tableRows struct {
	physical, ids         uint64
	source                string
	receivedAt, eventTime time.Time // of the first
	eventName, stage      string
}

// narrow is what is known of a row beside its id, for the table's key and
// partitions.
type narrow struct {
	source     string
	receivedAt time.Time // zero: not known
}

// rows counts the physical rows of the target, before they collapse. It is nil
// when the table could not be asked.
func (t *Tracer) rows(ctx context.Context, wanted *target, known narrow) (*tableRows, error) {
	if len(t.opts.Shards) == 0 {
		t.note("no ClickHouse is configured: rows were not looked for")
		return nil, nil
	}
	where := []string{"id >= ?", "id < ?"}
	from, to := wanted.objectID+"-", wanted.objectID+"." // "." comes after "-"
	switch {
	case wanted.line > 0 && wanted.event >= 0:
		from = wanted.id()
		to = from + "\x00"
	case wanted.line > 0:
		from = identity.RowID(wanted.objectID, wanted.line, 0)
		to = from + "/" // comes after "."
	}
	arguments := []any{from, to}
	switch {
	case !known.receivedAt.IsZero():
		where, arguments = append(where, "receivedAt = toDateTime(?)"), append(arguments, known.receivedAt.Unix())
	case !t.opts.Since.IsZero():
		where, arguments = append(where, "receivedAt >= toDateTime(?)"), append(arguments, t.opts.Since.Unix())
	}
	if known.source != "" {
		where, arguments = append(where, "sourceID = ?"), append(arguments, known.source)
	}
	query := "SELECT count(), uniqExact(id), any(sourceID), argMin(receivedAt, id), argMin(eventTime, id)," +
		" argMin(eventName, id), argMin(stage, id) FROM " + t.opts.Table + " WHERE " + strings.Join(where, " AND ")
	var found tableRows
	silent := false // a shard that may have it
	for _, shard := range t.opts.Shards {
		var here tableRows
		err := shard.QueryRow(ctx, query, arguments...).Scan(&here.physical, &here.ids, &here.source, &here.receivedAt, &here.eventTime, &here.eventName, &here.stage)
		switch {
		case isDone(ctx, err):
			return nil, fmt.Errorf("look for rows: %w", err)
		case err != nil:
			t.note("the table can't be asked: %s", oneLine(err))
			silent = true
		case here.physical > 0:
			// A row goes to the same shard always, so ids of several shards differ.
			here.physical, here.ids = here.physical+found.physical, here.ids+found.ids
			found = here
		}
	}
	if silent && found.physical == 0 {
		return nil, nil
	}
	return &found, nil
}

// rowIDs are those of an audit id, one for each stage of the request.
func (t *Tracer) rowIDs(ctx context.Context, auditID string) ([]string, error) {
	query, arguments := "SELECT DISTINCT id FROM "+t.opts.Table+" WHERE auditID = ?", []any{auditID}
	if !t.opts.Since.IsZero() {
		query, arguments = query+" AND receivedAt >= toDateTime(?)", append(arguments, t.opts.Since.Unix())
	}
	var ids []string
	err := t.each(ctx, "the table", query+fmt.Sprintf(" ORDER BY id LIMIT %d", mostTraces+1), arguments, func(rows driver.Rows) error {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	})
	slices.Sort(ids)
	return slices.Compact(ids), err
}

// each hands the rows of every shard to take. A shard that can't be asked is
// noted, and no error.
func (t *Tracer) each(ctx context.Context, what, query string, arguments []any, take func(driver.Rows) error) error {
	for _, shard := range t.opts.Shards {
		err := eachRow(ctx, shard, query, arguments, take)
		switch {
		case isDone(ctx, err):
			return fmt.Errorf("ask %s: %w", what, err)
		case err != nil:
			t.note("%s can't be asked: %s", what, oneLine(err))
		}
	}
	return nil
}

func eachRow(ctx context.Context, shard driver.Conn, query string, arguments []any, take func(driver.Rows) error) (err error) {
	rows, err := shard.Query(ctx, query, arguments...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := take(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// ledgerRows are the entries of the object in the ledger's table. A table that
// isn't there is no loss: topics and rows tell the rest.
func (t *Tracer) ledgerRows(ctx context.Context, objectID string) ([]topics.LedgerEntry, error) {
	if t.opts.Ledger == "" {
		return nil, nil
	}
	var entries []topics.LedgerEntry
	err := t.each(ctx, "the ledger's table", "SELECT id, kind, sourceID, receivedAt, recordedAt, endpoint, bucket, key, etag, version,"+
		" generation, lines, bytes, stage, outcome, reason, arrayMap(r -> r.1, ranges), arrayMap(r -> r.2, ranges)"+
		" FROM "+t.opts.Ledger+" WHERE object = ? ORDER BY recordedAt, id LIMIT 1 BY id", []any{objectID}, func(rows driver.Rows) error {
		entry := topics.LedgerEntry{Object: objectID}
		var kind, outcome string
		var receivedAt, recordedAt time.Time
		var generation uint32
		var lines, bytes uint64
		var from, to []uint64
		if err := rows.Scan(&entry.ID, &kind, &entry.Source, &receivedAt, &recordedAt, &entry.Endpoint, &entry.Bucket, &entry.Key,
			&entry.ETag, &entry.Version, &generation, &lines, &bytes, &entry.Stage, &outcome, &entry.Reason, &from, &to); err != nil {
			return err
		}
		entry.Kind, entry.Outcome, entry.Generation = topics.LedgerKind(kind), topics.LedgerOutcome(outcome), int(generation)
		entry.ReceivedAt, entry.RecordedAt = receivedAt.UnixMilli(), recordedAt.UnixMilli()
		entry.Lines, entry.Bytes = int64(lines), int64(bytes) //nolint:gosec // counts
		for i := range from {
			entry.Ranges = append(entry.Ranges, topics.LineRange{int64(from[i]), int64(to[i])}) //nolint:gosec // lines count from 1
		}
		entries = append(entries, entry)
		return nil
	})
	return entries, err
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
