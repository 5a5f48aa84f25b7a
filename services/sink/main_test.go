package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

func TestMain(m *testing.M) { servers.Main(m) }

// patience bounds everything a test waits for.
const patience = 90 * time.Second

// bench is a topic, a group and a table of one test, and the rows expected.
type bench struct {
	t        *testing.T
	brokers  []string
	names    topics.Names
	group    string
	server   *servers.ClickHouseServer
	conn     driver.Conn
	client   *kgo.Client
	admin    *kadm.Client
	produced int
	months   int // how many months the rows spread over; 0: one
	config   config.Sink
	accept   bool
	wrap     func(Table) Table
	adjust   func(*Options)
	shards   []*servers.ClickHouseServer // in place of server
}

var receivedAt = uint32(time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC).Unix())

func newBench(t *testing.T, brokers []string, server *servers.ClickHouseServer, partitions int32) *bench {
	t.Helper()
	return newBenchOf(t, brokers, server, partitions, false)
}

// newBenchOf is newBench with a replicated table or a plain one.
func newBenchOf(t *testing.T, brokers []string, server *servers.ClickHouseServer, partitions int32, replicated bool) *bench {
	t.Helper()
	name := servers.Name(t, "sink")
	b := &bench{
		t: t, brokers: brokers, names: topics.NewNames(name + "."), group: name, server: server, conn: server.Conn(t),
		config: config.Sink{
			BatchRows: 100, BatchSize: 1 << 20, BatchAge: 200 * time.Millisecond, Inserts: 4, Memory: 64 << 20,
			InsertTimeout: 30 * time.Second, Backoff: 20 * time.Millisecond,
		},
	}
	var err error
	b.client, err = kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	t.Cleanup(b.client.Close)
	b.admin = kadm.NewClient(b.client)
	_, err = b.admin.CreateTopic(t.Context(), partitions, 1, nil, b.names.Normalized)
	require.NoError(t, err)
	ddl := clickhouse.TableDDL(b.clickhouse())
	if replicated {
		ddl = strings.NewReplacer(
			"ENGINE = ReplacingMergeTree\n", "ENGINE = ReplicatedReplacingMergeTree('/auditstream/test/"+name+"', 'only')\n",
			"non_replicated_dedup", "replicated_deduplication_window_seconds = 604800, replicated_dedup").Replace(ddl)
	}
	require.NoError(t, b.conn.Exec(t.Context(), ddl))
	b.exec("SYSTEM STOP MERGES " + b.table())
	t.Cleanup(func() { _ = b.conn.Exec(context.Background(), "DROP TABLE IF EXISTS "+b.table()) })
	return b
}

func (b *bench) clickhouse() config.ClickHouse {
	cfg := config.ClickHouse{
		Addresses: []string{b.server.Address}, Database: b.server.Database, Table: "t_" + clean(b.group),
		Username: b.server.Username, Password: config.Secret(b.server.Password), Compression: "lz4",
	}
	for _, server := range b.shards {
		cfg.Addresses = nil
		cfg.Shards = append(cfg.Shards, config.Shard{Addresses: []string{server.Address}})
	}
	return cfg
}

func clean(text string) string {
	out := []byte(text)
	for i, c := range out {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') {
			out[i] = '_'
		}
	}
	return string(out)
}

func (b *bench) table() string {
	return clickhouse.Quote(b.server.Database) + "." + clickhouse.Quote(b.clickhouse().Table)
}

func (b *bench) exec(statement string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	require.NoError(b.t, b.conn.Exec(ctx, statement), statement)
}

func (b *bench) row(number int) event.Row {
	row := event.Row{
		WorkspaceID: "w", SourceID: "s", SourceType: "kubernetes-audit", ReceivedAt: receivedAt,
		ID: fmt.Sprintf("%032x-%012d", 1, number), Verb: "get", RawLog: []byte(`{"kind":"Event"}`),
	}
	if b.months > 0 {
		row.ReceivedAt = uint32(time.Date(2024, time.Month(1+number%b.months), 3, 0, 0, 0, 0, time.UTC).Unix())
	}
	return row
}

// produce adds rows that were not produced before to the partition.
func (b *bench) produce(partition int32, count int) {
	b.t.Helper()
	records := make([]*kgo.Record, count)
	for i := range records {
		b.produced++
		row := b.row(b.produced)
		records[i] = &kgo.Record{Topic: b.names.Normalized, Partition: partition, Value: topics.AppendNormalized(nil, &row)}
	}
	require.NoError(b.t, b.client.ProduceSync(b.t.Context(), records...).FirstErr())
}

// running is one instance of the sink.
type running struct {
	b       *bench
	service *Service
	health  *recorder
	cancel  context.CancelFunc
	done    chan struct{}
	err     error
}

func (b *bench) options(hook func(int32, Step) error) Options {
	return Options{
		Config: b.config, ClickHouse: b.clickhouse(), Topic: b.names.Normalized, Rows: Events, Group: b.group, AcceptGap: b.accept,
		Client: []kgo.Opt{
			kgo.SeedBrokers(b.brokers...), kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(200 * time.Millisecond),
			kgo.FetchMaxWait(100 * time.Millisecond),
		},
		Log: slog.New(slog.NewTextHandler(b.t.Output(), nil)), Registerer: prometheus.NewRegistry(), Health: newRecorder(), Hook: hook,
	}
}

func (b *bench) start(hook func(int32, Step) error) *running {
	b.t.Helper()
	options := b.options(hook)
	if b.adjust != nil {
		b.adjust(&options)
	}
	service, err := New(options)
	require.NoError(b.t, err)
	if b.wrap != nil {
		for _, shard := range service.shards {
			shard.table = b.wrap(shard.table)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{b: b, service: service, health: options.Health.(*recorder), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = service.Run(ctx)
	}()
	b.t.Cleanup(func() { cancel(); <-r.done })
	return r
}

// stop asks it to end and returns what Run returned.
func (r *running) stop() error {
	r.b.t.Helper()
	r.cancel()
	return r.wait()
}

func (r *running) wait() error {
	r.b.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		require.FailNow(r.b.t, "the sink did not end")
	}
	return r.err
}

// wantAll waits until every row produced is committed past, and then compares
// the table's ids with them: each once, counted as the parts are.
func (b *bench) wantAll() {
	b.t.Helper()
	b.wantCommitted()
	b.wantTable()
}

func (b *bench) wantCommitted() {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		ends, err := b.admin.ListEndOffsets(b.t.Context(), b.names.Normalized)
		require.NoError(b.t, err)
		offsets, err := b.admin.FetchOffsets(b.t.Context(), b.group)
		if err != nil {
			return false
		}
		behind := false
		ends.Each(func(end kadm.ListedOffset) {
			at, found := offsets.Lookup(end.Topic, end.Partition)
			behind = behind || end.Offset > 0 && (!found || at.At < end.Offset)
		})
		return !behind
	}, patience, 50*time.Millisecond, "not everything was committed")
}

// ids are the table's, with how many parts hold each.
func (b *bench) ids() map[string]uint64 {
	b.t.Helper()
	return servers.RowIDs(b.t, b.conn, b.table())
}

func (b *bench) wantTable() {
	b.t.Helper()
	got := b.ids()
	var lost, doubled []string
	for number := 1; number <= b.produced; number++ {
		id := fmt.Sprintf("%032x-%012d", 1, number)
		switch times := got[id]; {
		case times == 0:
			lost = append(lost, id)
		case times > 1:
			doubled = append(doubled, id)
		}
		delete(got, id)
	}
	require.Empty(b.t, lost, "lost")
	require.Empty(b.t, doubled, "doubled")
	require.Empty(b.t, got, "never produced")
}

// recorder is a Health that remembers.
type recorder struct {
	mu     sync.Mutex
	states map[string]error
}

func newRecorder() *recorder { return &recorder{states: make(map[string]error)} }

func (r *recorder) Expect(...string) {}

func (r *recorder) Report(component string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states[component] = err
}

func (r *recorder) Forget(component string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.states, component)
}

func (r *recorder) get(component string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.states[component]
}

// wantIll waits until the component reports an error with the text.
func (r *running) wantIll(component, text string) {
	r.b.t.Helper()
	require.Eventually(r.b.t, func() bool {
		err := r.health.get(component)
		return err != nil && (text == "" || contains(err.Error(), text))
	}, patience, 20*time.Millisecond, "%s never reported %q; last: %v", component, text, r.health.get(component))
}

func (r *running) component(partition int32) string {
	return fmt.Sprintf("sink %s/%d", r.b.names.Normalized, partition)
}

// crashAt returns a hook that makes the sink crash at the n-th coming of the
// step, and a check that it did.
func crashAt(step Step, nth int) (hook func(int32, Step) error, fired func() bool) {
	var mu sync.Mutex
	seen, crashed := 0, false
	return func(_ int32, at Step) error {
			mu.Lock()
			defer mu.Unlock()
			if at != step {
				return nil
			}
			if seen++; seen == nth {
				crashed = true
				return errors.New("crash")
			}
			return nil
		}, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return crashed
		}
}
