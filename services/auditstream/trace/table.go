package trace

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

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
	if t.opts.Database == nil {
		t.note("clickhouse.addresses is not configured: rows were not looked for")
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
	var found tableRows
	row := t.opts.Database.QueryRow(ctx, "SELECT count(), uniqExact(id), any(sourceID), argMin(receivedAt, id), argMin(eventTime, id),"+
		" argMin(eventName, id), argMin(stage, id) FROM "+t.opts.Table+" WHERE "+strings.Join(where, " AND "), arguments...)
	err := row.Scan(&found.physical, &found.ids, &found.source, &found.receivedAt, &found.eventTime, &found.eventName, &found.stage)
	switch {
	case isDone(ctx, err):
		return nil, fmt.Errorf("look for rows: %w", err)
	case err != nil:
		t.note("the table can't be asked: %s", oneLine(err))
		return nil, nil
	}
	return &found, nil
}

// rowIDs are those of an audit id, one for each stage of the request.
func (t *Tracer) rowIDs(ctx context.Context, auditID string) (ids []string, err error) {
	if t.opts.Database == nil {
		return nil, nil
	}
	query, arguments := "SELECT DISTINCT id FROM "+t.opts.Table+" WHERE auditID = ?", []any{auditID}
	if !t.opts.Since.IsZero() {
		query, arguments = query+" AND receivedAt >= toDateTime(?)", append(arguments, t.opts.Since.Unix())
	}
	rows, err := t.opts.Database.Query(ctx, query+fmt.Sprintf(" ORDER BY id LIMIT %d", mostTraces+1), arguments...)
	if err == nil {
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return nil, fmt.Errorf("read row ids: %w", err)
			}
			ids = append(ids, id)
		}
		err = rows.Err()
	}
	switch {
	case isDone(ctx, err):
		return nil, fmt.Errorf("look for rows of the audit id: %w", err)
	case err != nil:
		t.note("the table can't be asked: %s", oneLine(err))
		return nil, nil
	}
	return ids, nil
}

// ledgerRows are the entries of the object in the ledger's table. A table that
// isn't there is no loss: topics and rows tell the rest.
func (t *Tracer) ledgerRows(ctx context.Context, objectID string) (entries []topics.LedgerEntry, err error) {
	if t.opts.Database == nil || t.opts.Ledger == "" {
		return nil, nil
	}
	rows, err := t.opts.Database.Query(ctx, "SELECT id, kind, sourceID, receivedAt, recordedAt, endpoint, bucket, key, etag, version,"+
		" generation, lines, bytes, stage, outcome, reason, arrayMap(r -> r.1, ranges), arrayMap(r -> r.2, ranges)"+
		" FROM "+t.opts.Ledger+" WHERE object = ? ORDER BY recordedAt, id LIMIT 1 BY id", objectID)
	if err == nil {
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			entry := topics.LedgerEntry{Object: objectID}
			var kind, outcome string
			var receivedAt, recordedAt time.Time
			var generation uint32
			var lines, bytes uint64
			var from, to []uint64
			if err := rows.Scan(&entry.ID, &kind, &entry.Source, &receivedAt, &recordedAt, &entry.Endpoint, &entry.Bucket, &entry.Key,
				&entry.ETag, &entry.Version, &generation, &lines, &bytes, &entry.Stage, &outcome, &entry.Reason, &from, &to); err != nil {
				return nil, fmt.Errorf("read the ledger: %w", err)
			}
			entry.Kind, entry.Outcome, entry.Generation = topics.LedgerKind(kind), topics.LedgerOutcome(outcome), int(generation)
			entry.ReceivedAt, entry.RecordedAt = receivedAt.UnixMilli(), recordedAt.UnixMilli()
			entry.Lines, entry.Bytes = int64(lines), int64(bytes) //nolint:gosec // counts
			for i := range from {
				entry.Ranges = append(entry.Ranges, topics.LineRange{int64(from[i]), int64(to[i])}) //nolint:gosec // lines count from 1
			}
			entries = append(entries, entry)
		}
		err = rows.Err()
	}
	switch {
	case isDone(ctx, err):
		return nil, fmt.Errorf("read the ledger: %w", err)
	case err != nil:
		t.note("the ledger's table can't be asked: %s", oneLine(err))
		return nil, nil
	}
	return entries, nil
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
