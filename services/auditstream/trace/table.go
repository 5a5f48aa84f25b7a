package trace

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/auditstream/auditstream/pkg/identity"
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

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
