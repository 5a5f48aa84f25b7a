package clickhouse

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// queryID names an insert of the token, so that Running finds it. Each try has
// one of its own, as the server wants.
func queryID(token string) string { return queryPrefix(token) + rand.Text() }

func queryPrefix(token string) string { return "auditstream-" + token + "-" }

// Running reports whether an insert under the token is still under way on the
// server, whoever has sent it, and asks it to end.
//
// A MergeTree notes the token before the part is to be seen: as long as such an
// insert runs, "it is a duplicate, and the rows are not there" may be true for
// a moment only. A Replicated table adds part and token in one step, so nothing
// has to be asked. One that waits for its client ends when that sends, dies, or
// is silent for the server's receive_timeout.
func (t *Table) Running(ctx context.Context, token string) (running bool, err error) {
	server, prepared := t.server(), t.prepared.Load()
	if prepared.replicated {
		return false, nil
	}
	defer func() { t.failed(server, err) }()
	condition := "startsWith(query_id, " + quoteText(queryPrefix(token)) + ")"
	var queries uint64
	asking := clickhouse.Context(ctx, clickhouse.WithSettings(prepared.proofSettings))
	if err := server.QueryRow(asking, "SELECT count() FROM system.processes WHERE "+condition).Scan(&queries); err != nil {
		return false, fmt.Errorf("look for inserts under way: %w", err)
	}
	if queries == 0 {
		return false, nil
	}
	if err := server.Exec(ctx, "KILL QUERY WHERE "+condition+" ASYNC"); err != nil {
		return true, fmt.Errorf("end an earlier insert that is still under way: %w", err)
	}
	return true, nil
}
