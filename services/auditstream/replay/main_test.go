package replay_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/generate"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/services/auditstream/replay"
	"github.com/auditstream/auditstream/services/auditstream/stack"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/tests/stages"
	"github.com/auditstream/auditstream/topics"
)

func TestMain(m *testing.M) { servers.Main(m) }

const (
	// patience bounds everything a test waits for.
	patience = 90 * time.Second
	poll     = 50 * time.Millisecond
)

var received = time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)

// world is a pipeline of one test, and the ids of the rows that it must have.
type world struct {
	t      *testing.T
	cfg    config.Config
	client *kgo.Client
	admin  *kadm.Client
	conn   driver.Conn
	geo    string // directory with databases; those of the pipeline know nothing
	mu     sync.Mutex
	want   map[string]bool
	log    *slog.Logger
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, servers.Kafka(t))
}

func newWorldOn(t *testing.T, brokers []string) *world {
	t.Helper()
	name := servers.Name(t, "replay")
	server := servers.ClickHouse(t)
	w := &world{t: t, conn: server.Conn(t), geo: t.TempDir(), want: make(map[string]bool), cfg: stages.Config(brokers, name)}
	w.log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	_, err := generate.WriteGeoIP(w.geo)
	require.NoError(t, err)
	cfg := &w.cfg
	cfg.Sink.BatchRows, cfg.Sink.BatchAge, cfg.Sink.Backoff = 100, 200*time.Millisecond, 20*time.Millisecond
	cfg.Fetcher.Backoff = 100 * time.Millisecond
	server.Configure(&cfg.ClickHouse)
	w.source("one", "acme")
	w.source("two", "acme")
	require.NoError(t, stack.ApplyTopics(t.Context(), *cfg, w.log))
	_, err = clickhouse.Apply(t.Context(), w.conn, cfg.ClickHouse)
	require.NoError(t, err)
	w.exec("SYSTEM STOP MERGES " + cfg.ClickHouse.Table)
	w.client, err = kgo.NewClient(kgo.SeedBrokers(cfg.Kafka.Brokers...), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	require.NoError(t, err)
	t.Cleanup(w.client.Close)
	w.admin = kadm.NewClient(w.client)
	return w
}

func (w *world) source(id, workspace string) {
	source := config.DefaultSource()
	source.ID, source.Workspace, source.Bucket, source.Listing.Enabled = id, workspace, "bucket-"+id, false
	w.cfg.Sources = append(w.cfg.Sources, source)
}

func (w *world) exec(statement string) {
	w.t.Helper()
	require.NoError(w.t, w.conn.Exec(w.t.Context(), statement), statement)
}

func eventLine(number int) []byte {
	return fmt.Appendf(nil, `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a-%d","stage":"ResponseComplete",`+
		`"requestURI":"/api/v1/namespaces/web/pods/p","verb":"get","user":{"username":"u"},"sourceIPs":["192.0.2.5"],`+
		`"objectRef":{"resource":"pods","namespace":"web","name":"p","apiVersion":"v1"},"responseStatus":{"code":200},`+
		`"requestReceivedTimestamp":"2026-05-01T09:00:00.000000Z","stageTimestamp":"2026-05-01T09:00:00.000000Z"}`, number)
}

// object names an object of a source in its bucket.
func (w *world) object(source, key string) string {
	return identity.ObjectID("aws", "bucket-"+source, key, "etag")
}

// lines puts lines of an object into `raw`. Every tenth is no JSON.
func (w *world) lines(source, key string, from, to int) {
	w.t.Helper()
	object := w.object(source, key)
	var records []*kgo.Record
	for number := from; number <= to; number++ {
		line := topics.RawLine{Source: source, Object: object, Line: int64(number), ReceivedAt: received.UnixMilli(), Bytes: eventLine(number)}
		if number%10 == 0 {
			line.Bytes = []byte("no")
		} else {
			w.mu.Lock()
			w.want[identity.RowID(object, int64(number), 0)] = true
			w.mu.Unlock()
		}
		records = append(records, line.Record(w.cfg.Topics.Names().Raw))
	}
	if err := w.client.ProduceSync(w.t.Context(), records...).FirstErr(); err != nil {
		w.t.Error(err)
	}
}

// start runs stages of the pipeline until stop.
func (w *world) start(which ...config.Command) (stop func()) {
	w.t.Helper()
	return stages.Run(w.t, w.cfg, w.log, nil, which...)
}

// ids are those in a table or view, with how many rows each has.
func (w *world) ids(table string) map[string]uint64 {
	w.t.Helper()
	return servers.RowIDs(w.t, w.conn, table)
}

func (w *world) count(query string) uint64 {
	w.t.Helper()
	var count uint64
	require.NoError(w.t, w.conn.QueryRow(w.t.Context(), query).Scan(&count), query)
	return count
}

// settled waits until the live table has every row.
func (w *world) settled() {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		return w.count("SELECT uniqExact(id) FROM "+w.cfg.ClickHouse.Table) >= uint64(len(w.want))
	}, patience, 50*time.Millisecond)
}

// wantEach compares the ids of a table or view with those wanted, each the
// times given.
func (w *world) wantEach(table string, times uint64, want map[string]bool) {
	w.t.Helper()
	got := w.ids(table)
	require.Equal(w.t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)), table)
	for id, n := range got {
		require.Equal(w.t, times, n, id)
	}
}

// wantView is what people read: every row, once.
func (w *world) wantView() {
	w.t.Helper()
	w.wantEach(w.cfg.ClickHouse.View, 1, w.want)
}

// those are the ids wanted that begin so.
func (w *world) those(prefixes ...string) map[string]bool {
	some := make(map[string]bool)
	for id := range w.want {
		for _, prefix := range prefixes {
			if strings.HasPrefix(id, prefix) {
				some[id] = true
			}
		}
	}
	return some
}

// options of a replay that knows the places.
func (w *world) options(from string) replay.Options {
	cfg := w.cfg
	cfg.Enricher.GeoIP.Directory = w.geo
	sources, err := stack.AuditSources(cfg.Sources)
	require.NoError(w.t, err)
	return replay.Options{Config: cfg, Sources: sources, From: from, Name: "test", Log: w.log, Out: w.t.Output()}
}

func (w *world) replay(opts replay.Options) replay.Summary {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	summary, err := replay.Run(ctx, opts)
	require.NoError(w.t, err)
	return summary
}

func (w *world) fails(opts replay.Options) error {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	_, err := replay.Run(ctx, opts)
	require.Error(w.t, err)
	return err
}
