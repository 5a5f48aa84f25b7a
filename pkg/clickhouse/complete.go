package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditstream/auditstream/pkg/config"
)

// ErrNoLedger: the server has no table of the ledger.
var ErrNoLedger = errors.New("there is no ledger of objects")

// unknownTable and unknownDatabase are codes of the server's errors.
const (
	unknownTable    = 60
	unknownDatabase = 81
)

// CompleteObjects gives those of a source's objects, by their ids, that the
// ledger says were fetched from the first line to the last. Their receivedAt is
// from since to until, which keeps the server from looking through all of it.
func CompleteObjects(
	ctx context.Context, conn driver.Conn, cfg config.ClickHouse, source string, ids []string, since, until time.Time,
) (complete []string, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := conn.Query(ctx, "SELECT DISTINCT object FROM "+qualified(ofObjects(cfg))+
		" WHERE kind = 'object' AND outcome = 'complete' AND firstLine = 1 AND sourceID = $1"+
		" AND receivedAt BETWEEN $2 AND $3 AND object IN $4",
		source, since.UTC().Truncate(time.Second), until.UTC().Add(time.Second), ids)
	var exception *clickhouse.Exception
	if errors.As(err, &exception) && (exception.Code == unknownTable || exception.Code == unknownDatabase) {
		return nil, fmt.Errorf("%w: %w", ErrNoLedger, err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the ledger: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var object string
		if err := rows.Scan(&object); err != nil {
			return nil, fmt.Errorf("ask the ledger: %w", err)
		}
		complete = append(complete, object)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("ask the ledger: %w", err)
	}
	return complete, nil
}
