package fetcher_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

func TestMain(m *testing.M) { servers.Main(m) }

const (
	alias      = "store"
	sourceID   = "cluster-a"
	patience   = 60 * time.Second
	partitions = 3
)

// world is a broker, an object store behind a proxy that injects faults, and a
// bucket of its own.
type world struct {
	t        *testing.T
	brokers  []string
	prefix   string // of topics, and the group
	client   *kgo.Client
	s3       *s3.Client
	bucket   string
	faults   *faults
	proxy    *httptest.Server
	s3Config config.S3
	names    topics.Names
	health   *healthRecord
}

// newWorld makes its own topics, group and bucket on a shared broker, or on the
// brokers given, and a shared object store.
func newWorld(t *testing.T, brokers ...string) *world {
	t.Helper()
	if len(brokers) == 0 {
		brokers = servers.Kafka(t)
	}
	store := servers.S3(t)
	w := &world{
		t: t, brokers: brokers, prefix: servers.Name(t, "fetcher") + ".", faults: newFaults(t, store.Endpoint),
		health: newHealthRecord(), bucket: store.Bucket, s3: store.Client(t),
	}
	w.names = topics.NewNames(w.prefix)
	w.proxy = httptest.NewServer(w.faults)
	t.Cleanup(w.proxy.Close)
	t.Cleanup(w.proxy.CloseClientConnections)
	w.s3Config = store.Config(alias)
	w.s3Config.Endpoint = w.proxy.URL
	var err error
	w.client, err = kgo.NewClient(kgo.SeedBrokers(w.brokers...))
	require.NoError(t, err)
	t.Cleanup(w.client.Close)
	admin := kadm.NewClient(w.client)
	all := []string{w.names.Objects, w.names.Raw, w.names.DeadLetter, w.names.Ledger}
	limit := "20000000"
	for _, topic := range all {
		created, err := admin.CreateTopic(t.Context(), partitions, 1, map[string]*string{"max.message.bytes": &limit}, topic)
		require.NoError(t, err)
		require.NoError(t, created.Err)
	}
	t.Cleanup(func() { _, _ = admin.DeleteTopics(context.Background(), all...) })
	return w
}

// options are small, so that small objects have several slices.
func (w *world) options() fetcher.Options {
	cfg := config.Default()
	cfg.Fetcher.SliceSize = 256 << 10
	cfg.Fetcher.Backoff = 20 * time.Millisecond
	cfg.Fetcher.Attempts = 3
	cfg.Fetcher.StallTimeout = 2 * time.Second
	cfg.Topics.LineLimit = 64 << 10
	cfg.Topics.Prefix = w.prefix
	cfg.Kafka.Group = w.prefix + "group"
	cfg.Kafka.Brokers = w.brokers
	cfg.Kafka.SessionTimeout = 6 * time.Second
	return fetcher.Options{
		Config: cfg.Fetcher, Topics: cfg.Topics, Kafka: cfg.Kafka, S3: w.s3Config,
		Sources: []config.Source{{
			ID: sourceID, Bucket: w.bucket, Prefix: "logs/",
			Listing: config.Listing{Enabled: true, Interval: 200 * time.Millisecond},
		}},
		Instance: "one", Health: w.health, Registerer: prometheus.NewRegistry(),
		Log: slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
}

// running is one instance of the fetcher.
type running struct {
	t        *testing.T
	cancel   context.CancelFunc
	done     chan error
	registry *prometheus.Registry
	stopped  bool
}

func (w *world) start(change func(*fetcher.Options)) *running {
	w.t.Helper()
	opts := w.options()
	registry := prometheus.NewRegistry()
	opts.Registerer = registry
	if change != nil {
		change(&opts)
	}
	f, err := fetcher.New(w.t.Context(), opts)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: w.t, cancel: cancel, done: make(chan error, 1), registry: registry}
	go func() { r.done <- f.Run(ctx) }()
	w.t.Cleanup(r.stop)
	return r
}

// stop ends the instance in order.
func (r *running) stop() {
	if r.stopped {
		return
	}
	r.stopped = true
	r.cancel()
	select {
	case err := <-r.done:
		if err != nil && !errors.Is(err, errCrash) {
			r.t.Errorf("fetcher ended: %v", err)
		}
	case <-time.After(patience):
		r.t.Error("the fetcher does not end")
	}
}

// crashed waits until the instance has ended with errCrash.
func (r *running) crashed() {
	r.t.Helper()
	select {
	case err := <-r.done:
		require.ErrorIs(r.t, err, errCrash)
		r.stopped = true
	case <-time.After(patience):
		r.t.Fatal("the crash did not come")
	}
}

func (r *running) metric(name string, labels ...string) float64 {
	r.t.Helper()
	families, err := r.registry.Gather()
	require.NoError(r.t, err)
	total := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			matches := true
			for _, label := range metric.GetLabel() {
				matches = matches && (len(labels) == 0 || slices.Contains(labels, label.GetValue()))
			}
			if matches {
				total += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return total
}

// put stores an object and gives its id.
func (w *world) put(key string, content []byte) string {
	w.t.Helper()
	out, err := w.s3.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &w.bucket, Key: &key, Body: bytes.NewReader(content)})
	require.NoError(w.t, err)
	return identity.ObjectID(alias, w.bucket, key, aws.ToString(out.ETag))
}

func zip(parts ...string) []byte {
	var buffer bytes.Buffer
	for _, part := range parts {
		writer := gzip.NewWriter(&buffer)
		_, _ = writer.Write([]byte(part))
		_ = writer.Close()
	}
	return buffer.Bytes()
}

// expected are the rows that should be in raw: row id to text.
type expected map[string]string

// lines adds the lines of an object; blank ones count and are left out.
func (e expected) lines(object, content string) {
	for i, text := range strings.Split(strings.TrimSuffix(content, "\n"), "\n") {
		if text = strings.TrimSuffix(text, "\r"); strings.TrimSpace(text) != "" {
			e[identity.RowID(object, int64(i+1), 0)] = text
		}
	}
}

// committed reads what is committed in a topic from its beginning, until enough
// says so, and then once more for a moment to see what should not be there.
func (w *world) committed(topic string, enough func([]*kgo.Record) bool) []*kgo.Record {
	w.t.Helper()
	return servers.Committed(w.t, w.brokers, topic, enough)
}

// requireRaw compares the rows in raw with the expected: the same set, each
// once, each text byte for byte.
func (w *world) requireRaw(want expected) {
	w.t.Helper()
	seen := make(map[string]bool)
	counted := 0
	records := w.committed(w.names.Raw, func(records []*kgo.Record) bool {
		for ; counted < len(records); counted++ {
			if line, err := topics.DecodeRawLine(records[counted]); err == nil {
				seen[identity.RowID(line.Object, line.Line, 0)] = true
			}
		}
		return len(seen) >= len(want)
	})
	got := make(expected)
	times := make(map[string]int)
	for _, record := range records {
		line, err := topics.DecodeRawLine(record)
		require.NoError(w.t, err)
		require.Equal(w.t, sourceID, line.Source)
		id := identity.RowID(line.Object, line.Line, 0)
		got[id] = string(line.Bytes)
		if times[id]++; times[id] > 1 {
			w.t.Errorf("row %s is there %d times", id, times[id])
		}
	}
	if !maps.Equal(got, want) {
		w.t.Fatalf("%d rows, want %d: %s", len(got), len(want), first(cmp.Diff(want, got), 2000))
	}
}

func first(text string, n int) string { return text[:min(n, len(text))] }

// deadLetters waits for n dead letters and gives all there are.
func (w *world) deadLetters(n int) []topics.DeadLetterRecord {
	w.t.Helper()
	records := w.committed(w.names.DeadLetter, func(records []*kgo.Record) bool { return len(records) >= n })
	letters := make([]topics.DeadLetterRecord, len(records))
	for i, record := range records {
		var err error
		letters[i], err = topics.DecodeDeadLetter(record)
		require.NoError(w.t, err)
	}
	require.Len(w.t, letters, n)
	return letters
}

// announce puts records into objects as an intake does.
func (w *world) announce(objects ...topics.Object) {
	w.t.Helper()
	for i := range objects {
		record, err := objects[i].Record(w.names.Objects)
		require.NoError(w.t, err)
		require.NoError(w.t, w.client.ProduceSync(w.t.Context(), record).FirstErr())
	}
}

func (w *world) object(key, etag string) topics.Object {
	return topics.Object{
		ID: identity.ObjectID(alias, w.bucket, key, etag), Source: sourceID, Endpoint: alias, Bucket: w.bucket, Key: key,
		ETag: etag, FromLine: 1, Cause: topics.CauseNotified, AnnouncedAt: time.Now().UTC(),
	}
}

// stored is the object as it is in the store.
func (w *world) stored(key string) topics.Object {
	w.t.Helper()
	head, err := w.s3.HeadObject(w.t.Context(), &s3.HeadObjectInput{Bucket: &w.bucket, Key: &key})
	require.NoError(w.t, err)
	object := w.object(key, strings.Trim(aws.ToString(head.ETag), `"`))
	object.Size = aws.ToInt64(head.ContentLength)
	return object
}

// noListing leaves announcing to the test.
func noListing(o *fetcher.Options) { o.Sources[0].Listing.Enabled = false }
