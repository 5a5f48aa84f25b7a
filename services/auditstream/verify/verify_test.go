package verify

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	clickhousego "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

func TestMain(m *testing.M) { servers.Main(m) }

// world is both tables on a real server, filled by hand.
type world struct {
	t      testing.TB
	cfg    config.ClickHouse
	conn   driver.Conn
	ledger clickhouse.ObjectsTable
	now    time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	server := servers.ClickHouse(t)
	w := &world{t: t, conn: server.Conn(t), now: time.Now().Truncate(time.Second).Add(-time.Hour)}
	w.cfg = config.Default().ClickHouse
	w.cfg.Addresses, w.cfg.Database, w.cfg.Username, w.cfg.Password = []string{server.Address}, server.Database, server.Username, config.Secret(server.Password)
	_, err := clickhouse.Apply(t.Context(), w.conn, w.cfg)
	require.NoError(t, err)
	// A double must not collapse while it is looked for.
	w.exec("ALTER TABLE " + w.cfg.Table + " MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1")
	w.ledger, err = clickhouse.OpenObjects(w.cfg, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.ledger.Close() })
	require.NoError(t, w.ledger.Prepare(t.Context()))
	return w
}

func (w *world) exec(query string, arguments ...any) {
	w.t.Helper()
	require.NoError(w.t, w.conn.Exec(context.WithoutCancel(w.t.Context()), query, arguments...))
}

func objectID(name string) string { return identity.ObjectID("test", "bucket", name, "1") }

// object is one in the ledger, with lines 1 to lines.
func (w *world) object(name string, lines uint64, change ...func(*clickhouse.ObjectsRow)) {
	w.t.Helper()
	row := clickhouse.ObjectsRow{
		WorkspaceID: "w", SourceID: "s", ReceivedAt: uint32(w.now.Unix()), ID: topics.ObjectEntryID(objectID(name), 0, 0, 1), Kind: "object",
		RecordedAt: w.now, Object: objectID(name), Endpoint: "test", Bucket: "bucket", Key: name, FirstLine: 1, Lines: lines,
		Stage: "fetcher", Outcome: "complete", ReplaySince: time.UnixMilli(0), ReplayUntil: time.UnixMilli(0),
	}
	w.enter(row, change...)
}

func (w *world) lines(name, outcome, reason string, rows uint64, ranges ...[2]int64) {
	w.t.Helper()
	w.enter(clickhouse.ObjectsRow{
		WorkspaceID: "w", SourceID: "s", ReceivedAt: uint32(w.now.Unix()), ID: fmt.Sprint(objectID(name), outcome, reason, rows, ranges), Kind: "lines",
		RecordedAt: w.now, Object: objectID(name), Stage: "enricher", Outcome: outcome, Reason: reason, Rows: rows, Ranges: ranges,
		ReplaySince: time.UnixMilli(0), ReplayUntil: time.UnixMilli(0),
	})
}

func (w *world) enter(row clickhouse.ObjectsRow, change ...func(*clickhouse.ObjectsRow)) {
	w.t.Helper()
	for _, change := range change {
		change(&row)
	}
	_, err := w.ledger.Insert(w.t.Context(), row.ID+fmt.Sprint(row.Generation, row.FirstLine), []clickhouse.ObjectsRow{row})
	require.NoError(w.t, err)
}

// rows puts rows of lines into the table.
func (w *world) rows(name string, from, to int64, events ...int) {
	w.t.Helper()
	if len(events) == 0 {
		events = []int{0}
	}
	token := clickhousego.WithSettings(clickhousego.Settings{"insert_deduplication_token": rand.Text()})
	batch, err := w.conn.PrepareBatch(clickhousego.Context(w.t.Context(), token), "INSERT INTO "+w.cfg.Table+" (workspaceID, sourceID, receivedAt, id)")
	require.NoError(w.t, err)
	for line := from; line <= to; line++ {
		for _, event := range events {
			require.NoError(w.t, batch.Append("w", "s", w.now, identity.RowID(objectID(name), line, event)))
		}
	}
	require.NoError(w.t, batch.Send())
}

func (w *world) verify(change ...func(*Options)) *Report {
	w.t.Helper()
	opts := Options{ClickHouse: w.cfg, Shards: []driver.Conn{w.conn}}
	for _, change := range change {
		change(&opts)
	}
	report, err := Run(w.t.Context(), opts)
	require.NoError(w.t, err)
	return report
}

// The same number is hashed in ClickHouse and here.
func TestHashIsTheServers(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		line  int64
		event int
	}{{1, 0}, {42, 0}, {42, 7}, {1 << 39, 999_999}} {
		var got uint64
		require.NoError(t, w.conn.QueryRow(t.Context(), "SELECT intHash64("+numberOf+") FROM (SELECT ? AS id)",
			identity.RowID(objectID("x"), row.line, row.event)).Scan(&got))
		require.Equal(t, hashOf(row.line, row.event), got, "%v", row)
	}
}

func TestAllThere(t *testing.T) {
	w := newWorld(t)
	w.object("plain", 100)
	w.rows("plain", 1, 100)
	w.object("empty", 0)
	w.object("mixed", 20)
	w.lines("mixed", "skip", "blank", 0, [2]int64{2, 3}, [2]int64{9, 9})
	w.lines("mixed", "deadletter", "not-json", 0, [2]int64{4, 4})
	w.lines("mixed", "events", "", 3, [2]int64{5, 6})
	w.lines("mixed", "deadletter", "not-audit-event", 2, [2]int64{7, 7})
	w.rows("mixed", 1, 1)
	w.rows("mixed", 5, 6, 0, 1, 2)
	w.rows("mixed", 7, 7, 0, 2)
	w.rows("mixed", 8, 8)
	w.rows("mixed", 10, 20)
	// Set aside in the middle, and gone on with from there on another day.
	w.object("retried", 10, func(r *clickhouse.ObjectsRow) { r.Outcome, r.Reason = "deadletter", "object-unavailable" })
	w.object("retried", 30, func(r *clickhouse.ObjectsRow) {
		r.Generation, r.FirstLine, r.ID = 1, 11, topics.ObjectEntryID(objectID("retried"), 1, 0, 2)
	})
	w.rows("retried", 1, 30)
	// A dead letter that was put back, twice.
	w.object("put back", 3)
	w.lines("put back", "deadletter", "not-json", 0, [2]int64{2, 2})
	w.rows("put back", 1, 3)
	w.rows("put back", 2, 2)
	w.object("missing", 0, func(r *clickhouse.ObjectsRow) { r.Outcome, r.Reason = "deadletter", "object-missing" })
	// Lines of a source that the enricher did not know, nor its workspace.
	w.object("stranger", 2)
	w.rows("stranger", 1, 1)
	w.enter(clickhouse.ObjectsRow{
		SourceID: "s", ReceivedAt: uint32(w.now.Unix()), ID: objectID("stranger") + "-x", Kind: "lines", RecordedAt: w.now, Object: objectID("stranger"),
		Outcome: "deadletter", Reason: "unknown-source", Ranges: [][2]int64{{2, 2}}, ReplaySince: time.UnixMilli(0), ReplayUntil: time.UnixMilli(0),
	})

	r := w.verify()
	require.Empty(t, r.Problems)
	require.True(t, r.Complete())
	require.Equal(t, Totals{Objects: 7, Dead: 1, Lines: 155, WithRows: 150, DeadOnly: 2, Skipped: 3, Rows: 156}, r.Totals)
	require.Equal(t, []DeadObject{{objectID("missing"), "s3://bucket/missing", "s", "object-missing", 0}}, r.Dead)
	require.Equal(t, w.now.Unix(), r.LedgerBegins.Unix())
}

func TestWhatIsFound(t *testing.T) {
	w := newWorld(t)
	names := []string{"deleted", "doubled", "no rows", "beyond", "skipped has rows", "short", "extra event", "unknown", "event twice", "fine", "elsewhere"}
	for _, name := range names[:9] {
		if name != "unknown" {
			w.object(name, 10)
		}
	}
	w.rows("deleted", 1, 10)
	w.exec("ALTER TABLE "+w.cfg.Table+" DELETE WHERE id = ? SETTINGS mutations_sync = 2", identity.RowID(objectID("deleted"), 7, 0))
	w.rows("doubled", 1, 10)
	w.rows("doubled", 3, 4)
	w.rows("beyond", 1, 12)
	w.lines("skipped has rows", "skip", "blank", 0, [2]int64{5, 5})
	w.rows("skipped has rows", 1, 10)
	w.lines("short", "events", "", 3, [2]int64{2, 2})
	w.rows("short", 1, 10)
	w.rows("short", 2, 2, 1)
	w.rows("extra event", 1, 10)
	w.rows("extra event", 8, 8, 1)
	w.rows("unknown", 1, 5)
	// One event lost and another there twice: the number of rows is right.
	w.lines("event twice", "events", "", 3, [2]int64{2, 2})
	w.rows("event twice", 1, 10)
	w.rows("event twice", 2, 2, 1)
	w.rows("event twice", 2, 2, 1)
	w.object("fine", 5)
	w.rows("fine", 1, 5)

	r := w.verify()
	want := map[string]string{}
	for _, p := range r.Problems {
		for _, name := range names {
			if p.Object == objectID(name) {
				want[name] = fmt.Sprintf("missing [%s] short [%s] surplus [%s] doubled [%s] unknown %t", p.Missing, p.Short, p.Surplus, p.Doubled, p.Unknown)
			}
		}
	}
	require.Equal(t, map[string]string{
		"deleted":          "missing [7] short [] surplus [] doubled [] unknown false",
		"doubled":          "missing [] short [] surplus [] doubled [3-4] unknown false",
		"no rows":          "missing [1-10] short [] surplus [] doubled [] unknown false",
		"beyond":           "missing [] short [] surplus [11-12] doubled [] unknown false",
		"skipped has rows": "missing [] short [] surplus [5] doubled [] unknown false",
		"short":            "missing [] short [2] surplus [] doubled [] unknown false",
		"extra event":      "missing [] short [] surplus [8] doubled [] unknown false",
		"unknown":          "missing [] short [] surplus [] doubled [] unknown true",
		"event twice":      "missing [] short [2] surplus [] doubled [2] unknown false",
	}, want)
	require.Equal(t, int64(9), r.Totals.Problems)
	require.Equal(t, int64(11), r.Totals.Missing)
	var text strings.Builder
	require.NoError(t, r.Text(&text))
	require.Contains(t, text.String(), "s3://bucket/deleted")
	require.Contains(t, text.String(), "missing: neither row nor dead letter nor skip; line 7\n")
	require.Contains(t, text.String(), "NOT COMPLETE: 9 objects")

	// One object alone, by either name.
	for _, object := range []string{"s3://bucket/deleted", objectID("deleted")} {
		one := w.verify(func(o *Options) { o.Object = object })
		require.Len(t, one.Problems, 1)
		require.Equal(t, int64(1), one.Totals.Objects)
	}
	require.True(t, w.verify(func(o *Options) { o.Object = "s3://bucket/fine" }).Complete())
	require.True(t, w.verify(func(o *Options) { o.Source = "another" }).Complete())
	require.True(t, w.verify(func(o *Options) { o.Until = w.now }).Complete())
	require.True(t, w.verify(func(o *Options) { o.Since = w.now.Add(time.Second) }).Complete())
	require.Len(t, w.verify(func(o *Options) { o.Since, o.Until = w.now, w.now.Add(time.Second) }).Problems, 9)
	_, err := Run(t.Context(), Options{ClickHouse: w.cfg, Shards: []driver.Conn{w.conn}, Object: "s3://bucket/nothing"})
	require.ErrorIs(t, err, ErrNoSuchObject)
}

// Objects before, between and after those that have rows.
func TestObjectsWithoutRows(t *testing.T) {
	w := newWorld(t)
	require.True(t, w.verify().Complete(), "empty tables")
	for i := range 20 {
		w.object(fmt.Sprint("none ", i), 1)
	}
	require.Len(t, w.verify().Problems, 20)
	w.object("some", 1)
	w.rows("some", 1, 1)
	require.Len(t, w.verify().Problems, 20)
	require.Equal(t, int64(21), w.verify().Totals.Objects)
}

// The same id under another sorting key does not collapse with its twin.
func TestSameIDUnderAnotherKey(t *testing.T) {
	w := newWorld(t)
	w.object("twice", 10)
	w.rows("twice", 1, 10)
	w.now = w.now.Add(time.Minute)
	w.rows("twice", 4, 4)
	r := w.verify()
	require.Len(t, r.Problems, 1)
	require.True(t, r.Problems[0].Unknown)
	require.Equal(t, objectID("twice"), r.Problems[0].Object)
	require.Equal(t, int64(1), r.Problems[0].Rows)
}

// Rows that were made again on purpose are there twice until they collapse.
func TestDoublesThatAreExplained(t *testing.T) {
	w := newWorld(t)
	w.object("replayed", 10)
	w.rows("replayed", 1, 10)
	w.rows("replayed", 1, 10)
	w.object("again", 10)
	w.object("again", 10, func(r *clickhouse.ObjectsRow) { r.ID = topics.ObjectEntryID(objectID("again"), 0, 0, 2) })
	w.rows("again", 1, 10)
	w.rows("again", 5, 10)
	r := w.verify()
	require.Len(t, r.Problems, 1)
	require.Equal(t, "1-10", r.Problems[0].Doubled.String())

	replay := clickhouse.ObjectsRow{
		ID: "replay-1", Kind: "replay", SourceID: "s", RecordedAt: w.now, ReceivedAt: uint32(w.now.Unix()), ReplayTable: w.cfg.Database + "." + w.cfg.Table,
		ReplaySince: w.now.Add(-time.Hour), ReplayUntil: w.now.Add(time.Hour),
	}
	w.enter(replay)
	r = w.verify()
	require.True(t, r.Complete())
	require.Equal(t, int64(20), r.Totals.WithRows)
	require.Equal(t, int64(16), r.Again)

	// What a replay explains is a double, not a loss.
	w.exec("ALTER TABLE "+w.cfg.Table+" DELETE WHERE id = ? SETTINGS mutations_sync = 2", identity.RowID(objectID("replayed"), 7, 0))
	r = w.verify()
	require.Len(t, r.Problems, 1)
	require.Equal(t, "7", r.Problems[0].Missing.String())
	require.Empty(t, r.Problems[0].Doubled)
}

// Rows and entries past their time to live are neither looked for nor missed.
func TestExpired(t *testing.T) {
	w := newWorld(t)
	w.now = w.now.AddDate(0, 0, -8)
	w.object("expired", 10, func(r *clickhouse.ObjectsRow) { r.SourceTTL = 7 })
	require.True(t, w.verify().Complete())
	require.Zero(t, w.verify().Totals.Objects)
	w.object("kept", 10, func(r *clickhouse.ObjectsRow) { r.SourceTTL = 9 })
	require.Len(t, w.verify().Problems, 1)
}

// flight is one that says of all that it is under way.
type flight map[string]bool

func (flight) Begin(context.Context) ([]Lag, error) { return []Lag{{"g", "t", 3}}, nil }

func (f flight) UnderWay(_ context.Context, objects map[string]bool) (map[string]bool, []topics.LedgerEntry, error) {
	under := maps.Clone(objects)
	maps.DeleteFunc(under, func(object string, _ bool) bool { return !f[object] })
	return under, nil, nil
}

// An object whose source was not known has no workspace in the ledger until it
// is put back; then it is one object, and not set aside.
func TestPutBackWithItsSourceKnown(t *testing.T) {
	w := newWorld(t)
	unknown := func(r *clickhouse.ObjectsRow) {
		r.WorkspaceID, r.Outcome, r.Reason, r.ID = "", "deadletter", "unknown-source", r.ID+"-x"
	}
	w.object("later", 0, unknown)
	w.object("never", 0, unknown)
	r := w.verify()
	require.Len(t, r.Dead, 2)
	require.Equal(t, Totals{Objects: 2, Dead: 2}, r.Totals)

	w.object("later", 10)
	w.rows("later", 1, 10)
	r = w.verify()
	require.Empty(t, r.Problems)
	require.Equal(t, []DeadObject{{objectID("never"), "s3://bucket/never", "s", "unknown-source", 0}}, r.Dead)
	require.Equal(t, Totals{Objects: 2, Dead: 1, Lines: 10, WithRows: 10, Rows: 10}, r.Totals)
}

// replaying is one of replays whose entries the ledger has not taken in.
type replaying []topics.LedgerEntry

func (replaying) Begin(context.Context) ([]Lag, error) { return nil, nil }

func (r replaying) UnderWay(context.Context, map[string]bool) (map[string]bool, []topics.LedgerEntry, error) {
	return map[string]bool{}, r, nil
}

// Rows of a replay may be there before the ledger knows of it.
func TestReplayUnderWayIsNotJudged(t *testing.T) {
	w := newWorld(t)
	table := w.cfg.Database + "." + w.cfg.Table
	w.object("replayed", 10)
	w.rows("replayed", 1, 10)
	w.rows("replayed", 1, 10)
	w.object("missing too", 10)
	w.rows("missing too", 1, 9)
	w.rows("missing too", 1, 5)
	look := func(source, object string) *Report {
		replay := topics.ReplayEntry("1", source, object, table, 0, 0, w.now.UnixMilli())
		return w.verify(func(o *Options) { o.Flight = replaying{replay} })
	}
	require.Len(t, look("another", "").Problems, 2)
	require.Len(t, look("s", objectID("another")).Problems, 2)
	r := look("s", "")
	require.Equal(t, []string{objectID("replayed")}, r.UnderWay)
	require.Len(t, r.Problems, 1)
	require.Equal(t, objectID("missing too"), r.Problems[0].Object, "what is missing no replay explains")
}

func TestUnderWayIsNotJudged(t *testing.T) {
	w := newWorld(t)
	w.object("coming", 10)
	w.rows("coming", 1, 4)
	w.rows("not entered yet", 1, 4)
	require.Len(t, w.verify().Problems, 2)
	r := w.verify(func(o *Options) { o.Flight = flight{objectID("coming"): true, objectID("not entered yet"): true} })
	require.True(t, r.Complete())
	require.Len(t, r.UnderWay, 2)
	require.Equal(t, int64(3), r.Lag[0].Records)
	r = w.verify(func(o *Options) { o.Flight = flight{objectID("coming"): true} })
	require.Len(t, r.Problems, 1)
}
