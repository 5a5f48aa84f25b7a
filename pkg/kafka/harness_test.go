package kafka_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/tests/servers"
)

const patience = 90 * time.Second

func TestMain(m *testing.M) { servers.Main(m) }

func eachKafka(t *testing.T, test func(t *testing.T, k *broker)) {
	t.Helper()
	servers.EachKafka(t, func(t *testing.T, brokers []string) { test(t, newBroker(t, brokers)) })
}

type broker struct {
	t         *testing.T
	addresses []string
	client    *kgo.Client
	admin     *kadm.Client
	suffix    string
}

var names atomic.Int64

func newBroker(t *testing.T, addresses []string) *broker {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addresses...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return &broker{
		t: t, addresses: addresses, client: client, admin: kadm.NewClient(client),
		suffix: fmt.Sprintf("-%d-%d", time.Now().UnixNano(), names.Add(1)),
	}
}

func (b *broker) name(base string) string { return base + b.suffix }

func (b *broker) topic(base string, partitions int32) string {
	b.t.Helper()
	name := b.name(base)
	_, err := b.admin.CreateTopic(b.t.Context(), partitions, 1, nil, name)
	require.NoError(b.t, err)
	return name
}

// fill produces records with the values from up to to, spread over partitions.
func (b *broker) fill(topic string, partitions int32, from, to int) {
	b.t.Helper()
	records := make([]*kgo.Record, 0, to-from)
	for i := from; i < to; i++ {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i) % partitions, Value: []byte(strconv.Itoa(i))})
	}
	require.NoError(b.t, b.client.ProduceSync(b.t.Context(), records...).FirstErr())
}

// want waits until the committed records of the topic are the values from 0 to
// count, and fails when one is there twice, or when further ones come.
func (b *broker) want(topic string, count int) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	reader, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(b.t, err)
	defer reader.Close()
	seen := make(map[string]int)
	for len(seen) < count {
		fetches := reader.PollFetches(ctx)
		require.NoError(b.t, ctx.Err(), "read %d of %d records", len(seen), count)
		fetches.EachRecord(func(record *kgo.Record) { seen[string(record.Value)]++ })
	}
	for i := range count {
		require.Equal(b.t, 1, seen[strconv.Itoa(i)], "value %d", i)
	}
	// What else is committed must be there by the log's stable end.
	ends, err := b.admin.ListCommittedOffsets(ctx, topic)
	require.NoError(b.t, err)
	tail, cancelTail := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancelTail()
	for tail.Err() == nil {
		reader.PollFetches(tail).EachRecord(func(record *kgo.Record) { seen[string(record.Value)]++ })
	}
	require.Len(b.t, seen, count, "ends %v", ends)
	for value, times := range seen {
		require.Equal(b.t, 1, times, "value %s", value)
	}
}

func (b *broker) options(instance, in string) kafka.TransactionOptions {
	b.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("KAFKA_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("instance", instance)
	}
	registry := prometheus.NewRegistry()
	client, err := kafka.Options(config.Kafka{
		Brokers: b.addresses, ClientID: instance, SessionTimeout: 6 * time.Second,
	}, log, registry)
	require.NoError(b.t, err)
	return kafka.TransactionOptions{
		Client: client, Group: b.name("group"), Instance: instance, Topics: []string{in},
		Timeout: 10 * time.Second, MaxRecords: 50, Log: log, Registerer: registry, Stage: "test",
	}
}

type running struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
}

type process = func(ctx context.Context, tx *kafka.Transaction) error

func start(t *testing.T, opts kafka.TransactionOptions, process process) *running {
	t.Helper()
	transactions, err := kafka.NewTransactions(opts)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- transactions.Run(ctx, process) }()
	t.Cleanup(r.stop)
	return r
}

func (r *running) stop() {
	r.once.Do(func() {
		r.cancel()
		select {
		case err := <-r.done:
			require.NoError(r.t, err)
		case <-time.After(patience):
			require.Fail(r.t, "Run did not end")
		}
	})
}

func copyTo(topic string) process {
	return func(_ context.Context, tx *kafka.Transaction) error {
		for _, record := range tx.Records() {
			tx.Produce(&kgo.Record{Topic: topic, Value: record.Value})
		}
		return nil
	}
}

type healthRecorder struct {
	mu    sync.Mutex
	state map[string]error
}

func (h *healthRecorder) Expect(...string) {}
func (h *healthRecorder) Report(component string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == nil {
		h.state = make(map[string]error)
	}
	h.state[component] = err
}

func (h *healthRecorder) get(component string) (reported bool, _ error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	err, ok := h.state[component]
	return ok, err
}
