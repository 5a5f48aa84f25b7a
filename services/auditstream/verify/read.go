package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"

	clickhousego "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/topics"
)

// tables are where the rows and the ledger are.
type tables struct {
	shards       []driver.Conn // each holds a part of both tables
	rows, ledger string        // quoted
	name         string        // of the rows' table, as replays name it
	database     string
	now          uint32 // of the server, for both tables alike
}

// where is which part of the tables is meant.
type where struct {
	since, until uint32 // seconds; 0 is no bound
	source       string
	objects      []string // ids; nil: all
}

// slack is how long before its expiry a row counts as expired: the table may
// remove it while it is looked for.
const slack = 600

// conditions of a query on either table, both of which have these columns.
func (t *tables) conditions(w where, object string) (string, []any) {
	var all []string
	var arguments []any
	add := func(condition string, values ...any) {
		all = append(all, condition)
		arguments = append(arguments, values...)
	}
	if w.since > 0 {
		add("receivedAt >= toDateTime(?)", w.since)
	}
	if w.until > 0 {
		add("receivedAt < toDateTime(?)", w.until)
	}
	if w.source != "" {
		add("sourceID = ?", w.source)
	}
	if w.objects != nil {
		add(object+" IN ?", set(w.objects))
	}
	add("(sourceTTL = 0 OR receivedAt + toIntervalDay(sourceTTL) > toDateTime(?))", t.now+slack)
	return strings.Join(all, " AND "), arguments
}

// objectOf is the object id in a row id, and numberOf what is hashed of it.
const (
	objectOf = "substring(id, 1, 32)"
	numberOf = "bitShiftLeft(toUInt64OrZero(substring(id, 34, 12)), 20) + if(length(id) > 45, toUInt64OrZero(substring(id, 47)), 0)"
)

// aggregate is what one object's rows come to.
type aggregate struct {
	key Key
	sums
}

// aggregates hands out what each object's rows come to, in the order of keys.
// With final each row counts once, as if the table had collapsed.
func (t *tables) aggregates(ctx context.Context, w where, final bool, yield func(aggregate) error) error {
	conditions, arguments := t.conditions(w, objectOf)
	from := t.rows
	if final {
		from += " FINAL"
	}
	// The key's columns are kept in order and grouped by, so memory is bounded by
	// what the server works on at a time.
	query := "SELECT workspaceID, sourceID, toUInt32(receivedAt) AS received, " + objectOf + " AS object, count(), sum(intHash64(" + numberOf + "))" +
		" FROM " + from + " WHERE " + conditions +
		" GROUP BY workspaceID, sourceID, receivedAt, object ORDER BY workspaceID, sourceID, receivedAt, object" + t.settings(final)
	// Rows of one object may be on several shards.
	var sum aggregate
	err := inOrder(ctx, t.shards, func(a, b aggregate) bool { return a.key.before(b.key) },
		func(ctx context.Context, shard driver.Conn, yield func(aggregate) error) error {
			return ask(ctx, shard, query, arguments, func(rows driver.Rows) error {
				var a aggregate
				if err := rows.Scan(&a.key.Workspace, &a.key.Source, &a.key.ReceivedAt, &a.key.Object, &a.rows, &a.hash); err != nil {
					return err
				}
				return yield(a)
			})
		}, func(a aggregate) error {
			if a.key == sum.key {
				sum.rows += a.rows
				sum.hash += a.hash
				return nil
			}
			whole := sum
			if sum = a; whole.rows == 0 {
				return nil
			}
			return yield(whole)
		})
	if err == nil && sum.rows > 0 {
		err = yield(sum)
	}
	return err
}

func (*tables) settings(final bool) string {
	if final {
		// Partition and order are by the same columns, so twins share a partition.
		return " SETTINGS do_not_merge_across_partitions_select_final = 1"
	}
	return ""
}

// entries hands out the ledger's entries of objects and lines, in the order of
// keys.
func (t *tables) entries(ctx context.Context, w where, yield func(entry) error) error {
	conditions, arguments := t.conditions(w, "object")
	query := "SELECT workspaceID, sourceID, toUInt32(receivedAt), object, id, kind, generation, firstLine, lines, outcome, reason," +
		" arrayMap(r -> r.1, ranges), arrayMap(r -> r.2, ranges), rows, bucket, key, bytes" +
		" FROM " + t.ledger + " WHERE kind IN ('object', 'lines') AND " + conditions + " ORDER BY workspaceID, sourceID, receivedAt, id"
	before := func(a, b entry) bool { return a.key.before(b.key) }
	return inOrder(ctx, t.shards, before, func(ctx context.Context, shard driver.Conn, yield func(entry) error) error {
		return readEntries(ctx, shard, query, arguments, yield)
	}, yield)
}

func readEntries(ctx context.Context, shard driver.Conn, query string, arguments []any, yield func(entry) error) error {
	return ask(ctx, shard, query, arguments, func(rows driver.Rows) error {
		var e entry
		var kind, outcome string
		var first, last, count uint64
		var from, to []uint64
		if err := rows.Scan(&e.key.Workspace, &e.key.Source, &e.key.ReceivedAt, &e.key.Object, &e.id, &kind, &e.generation,
			&first, &last, &outcome, &e.reason, &from, &to, &count, &e.bucket, &e.s3, &e.bytes); err != nil {
			return err
		}
		e.kind, e.outcome = topics.LedgerKind(kind), topics.LedgerOutcome(outcome)
		e.first, e.last, e.rows = int64(first), int64(last), int64(count) //nolint:gosec // as the ledger was told
		for i := range from {
			e.ranges = append(e.ranges, topics.LineRange{int64(from[i]), int64(to[i])}) //nolint:gosec // same
		}
		return yield(e)
	})
}

// replays are those that have made rows of the table again.
func (t *tables) replays(ctx context.Context) (replays []topics.LedgerEntry, err error) {
	query := "SELECT sourceID, object, replayTable, toUnixTimestamp64Milli(replaySince), toUnixTimestamp64Milli(replayUntil) FROM " + t.ledger + " WHERE kind = 'replay'"
	err = t.query(ctx, query, nil, func(rows driver.Rows) error {
		e := topics.LedgerEntry{Kind: topics.LedgerReplay}
		if err := rows.Scan(&e.Source, &e.Object, &e.Table, &e.Since, &e.Until); err != nil {
			return err
		}
		replays = append(replays, t.ofReplay(e))
		return nil
	})
	return replays, err
}

// ofReplay is the entry with its table named as the rows' table is here.
func (t *tables) ofReplay(e topics.LedgerEntry) topics.LedgerEntry {
	e.Table = strings.TrimPrefix(e.Table, t.database+".")
	return e
}

// ids hands out how often each row id of an object is there, in order.
// A row and its twin are on the same shard.
func (t *tables) ids(ctx context.Context, key Key, yield func(id string, times uint64) error) error {
	query := "SELECT id, count() FROM " + t.rows + " WHERE workspaceID = ? AND sourceID = ? AND receivedAt = toDateTime(?) AND startsWith(id, ?)" +
		" AND (sourceTTL = 0 OR receivedAt + toIntervalDay(sourceTTL) > toDateTime(?)) GROUP BY id ORDER BY id"
	arguments := []any{key.Workspace, key.Source, key.ReceivedAt, key.Object, t.now + slack}
	type found struct {
		id    string
		times uint64
	}
	return inOrder(ctx, t.shards, func(a, b found) bool { return a.id < b.id },
		func(ctx context.Context, shard driver.Conn, yield func(found) error) error {
			return ask(ctx, shard, query, arguments, func(rows driver.Rows) error {
				var f found
				if err := rows.Scan(&f.id, &f.times); err != nil {
					return err
				}
				return yield(f)
			})
		}, func(f found) error { return yield(f.id, f.times) })
}

// known tells which of the objects the ledger knows, whatever their time.
func (t *tables) known(ctx context.Context, objects []string, yield func(object string)) error {
	return t.query(ctx, "SELECT DISTINCT object FROM "+t.ledger+" WHERE kind = 'object' AND object IN ?", []any{set(objects)}, func(rows driver.Rows) error {
		var object string
		if err := rows.Scan(&object); err != nil {
			return err
		}
		yield(object)
		return nil
	})
}

// find are the ids of the objects of a URI or id, and the times between which
// they were received.
func (t *tables) find(ctx context.Context, object string) (w where, err error) {
	condition, arguments := "object = ?", []any{object}
	if bucket, key, isURI := topics.ParseURI(object); isURI {
		condition, arguments = "bucket = ? AND key = ?", []any{bucket, key}
	}
	query := "SELECT object, toUInt32(min(receivedAt)), toUInt32(max(receivedAt)) FROM " + t.ledger + " WHERE kind = 'object' AND " + condition + " GROUP BY object"
	err = t.query(ctx, query, arguments, func(rows driver.Rows) error {
		var id string
		var first, last uint32
		if err := rows.Scan(&id, &first, &last); err != nil {
			return err
		}
		if w.objects == nil || first < w.since {
			w.since = first
		}
		w.objects, w.until = append(w.objects, id), max(w.until, last+1)
		return nil
	})
	return w, err
}

func (t *tables) begin(ctx context.Context) (first uint32, err error) {
	if err := t.shards[0].QueryRow(ctx, "SELECT toUInt32(now())").Scan(&t.now); err != nil {
		return 0, fmt.Errorf("ask ClickHouse for the time: %w", err)
	}
	err = t.query(ctx, "SELECT toUInt32(min(receivedAt)) FROM "+t.ledger+" WHERE kind = 'object'", nil, func(rows driver.Rows) error {
		var at uint32
		if err := rows.Scan(&at); err != nil {
			return err
		}
		if at > 0 && (first == 0 || at < first) {
			first = at
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read the ledger: %w", err)
	}
	return first, nil
}

// query asks all shards, one after the other.
func (t *tables) query(ctx context.Context, query string, arguments []any, each func(driver.Rows) error) error {
	for _, shard := range t.shards {
		if err := ask(ctx, shard, query, arguments, each); err != nil {
			return err
		}
	}
	return nil
}

func set(texts []string) clickhousego.GroupSet {
	values := make([]any, len(texts))
	for i, text := range texts {
		values[i] = text
	}
	return clickhousego.GroupSet{Value: values}
}

func ask(ctx context.Context, shard driver.Conn, query string, arguments []any, each func(driver.Rows) error) (err error) {
	rows, err := shard.Query(ctx, query, arguments...)
	if err != nil {
		return fmt.Errorf("%.60s…: %w", query, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("%.60s…: %w", query, err)
	}
	return nil
}

func quoted(database, table string) string {
	return clickhouse.Quote(database) + "." + clickhouse.Quote(table)
}
