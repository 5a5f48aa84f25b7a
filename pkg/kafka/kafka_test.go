package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
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

func TestCommitsAndGoesOn(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 3), b.topic("out", 2)
		b.fill(in, 3, 0, 500)
		first := start(t, b.options("a", in), copyTo(out))
		b.want(out, 500)
		first.stop()
		b.fill(in, 3, 500, 700)
		start(t, b.options("a", in), copyTo(out))
		b.want(out, 700)
	})
}

func TestAbortedRecordsComeAgain(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 2), b.topic("out", 2)
		b.fill(in, 2, 0, 300)
		var calls, aborts atomic.Int64
		opts := b.options("a", in)
		opts.OnAbort = func() { aborts.Add(1) }
		start(t, opts, func(ctx context.Context, tx *kafka.Transaction) error {
			_ = copyTo(out)(ctx, tx)
			if calls.Add(1)%3 == 1 {
				return fmt.Errorf("the store is away: %w", kafka.ErrAbort)
			}
			return nil
		})
		b.want(out, 300)
		require.Positive(t, aborts.Load())
	})
}

func TestProcessThatRunsOutOfTimeGetsFewerRecords(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 1), b.topic("out", 1)
		b.fill(in, 1, 0, 60)
		var late atomic.Int64
		opts := b.options("a", in)
		opts.Timeout = 2 * time.Second // 500 ms of work
		start(t, opts, func(ctx context.Context, tx *kafka.Transaction) error {
			if len(tx.Records()) > 15 {
				<-ctx.Done()
				late.Add(1)
				return ctx.Err()
			}
			return copyTo(out)(ctx, tx)
		})
		b.want(out, 60)
		require.GreaterOrEqual(t, late.Load(), int64(1))
	})
}

func TestErrorOfProcessEndsRun(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in := b.topic("in", 1)
		b.fill(in, 1, 0, 1)
		broken := errors.New("broken for good")
		transactions, err := kafka.NewTransactions(b.options("a", in))
		require.NoError(t, err)
		require.ErrorIs(t, transactions.Run(t.Context(), func(context.Context, *kafka.Transaction) error { return broken }), broken)
	})
}

// Instances come and go while records flow; assignments are seen in order.
func TestRebalancesLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		const partitions, total = 6, 6000
		in, out := b.topic("in", partitions), b.topic("out", 3)
		var filling sync.WaitGroup
		filling.Go(func() {
			for from := 0; from < total; from += 200 {
				b.fill(in, partitions, from, from+200)
				time.Sleep(100 * time.Millisecond) // paces the load, decides nothing
			}
		})
		instance := func(name string) *running {
			owned := make(map[int32]bool) // callbacks and process are one goroutine
			opts := b.options(name, in)
			// Another instance's output is no reason to think offsets lost.
			opts.Start.OutputTopics = []string{out}
			opts.OnAssigned = func(_ context.Context, positions kafka.Positions) error {
				for partition := range positions[in] {
					if owned[partition] {
						return fmt.Errorf("partition %d was assigned twice", partition)
					}
					owned[partition] = true
				}
				return nil
			}
			opts.OnRevoked = func(gone map[string][]int32) {
				for _, partition := range gone[in] {
					delete(owned, partition)
				}
			}
			return start(t, opts, func(ctx context.Context, tx *kafka.Transaction) error {
				for _, record := range tx.Records() {
					if !owned[record.Partition] {
						return fmt.Errorf("a record of partition %d, which was not assigned", record.Partition)
					}
				}
				return copyTo(out)(ctx, tx)
			})
		}
		instance("a")
		second := instance("b")
		time.Sleep(700 * time.Millisecond)
		third := instance("c")
		time.Sleep(700 * time.Millisecond)
		second.stop()
		time.Sleep(700 * time.Millisecond)
		third.stop()
		instance("d")
		filling.Wait()
		b.want(out, total)
	})
}

// A crash between producing and committing leaves a transaction open. The same
// instance aborts it when it comes back, and does not wait for its timeout.
func TestCrashWithAnOpenTransaction(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 1), b.topic("out", 1)
		b.fill(in, 1, 0, 40)
		opts := b.options("a", in)
		transactions, err := kafka.NewTransactions(opts)
		require.NoError(t, err)
		crashed, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.TransactionalID(transactions.TransactionalID()),
			kgo.TransactionTimeout(60*time.Second))
		require.NoError(t, err)
		require.NoError(t, crashed.BeginTransaction())
		require.NoError(t, crashed.ProduceSync(t.Context(), &kgo.Record{Topic: out, Value: []byte("never")}).FirstErr())

		opts.Registerer = prometheus.NewRegistry()
		start(t, opts, copyTo(out))
		begun := time.Now()
		b.want(out, 40)
		require.Less(t, time.Since(begun), 20*time.Second)
		// The crashed run, woken up, can't commit any more.
		require.Error(t, crashed.EndTransaction(t.Context(), kgo.TryCommit))
		crashed.Close()
		b.want(out, 40)
	})
}

// A stopped run that wakes up after another took over its instance name.
func TestZombieIsFenced(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 2), b.topic("out", 1)
		b.fill(in, 2, 0, 100)
		var once sync.Once
		asleep, awake, aborted := make(chan struct{}), make(chan struct{}), make(chan struct{})
		opts := b.options("a", in)
		opts.OnAbort = sync.OnceFunc(func() { close(aborted) })
		zombie := start(t, opts, func(ctx context.Context, tx *kafka.Transaction) error {
			_ = copyTo(out)(ctx, tx)
			once.Do(func() { close(asleep); <-awake })
			return nil
		})
		<-asleep
		successor := start(t, b.options("a", in), copyTo(out))
		// The successor has fenced the zombie once it has the producer id; it gets
		// the partitions when the zombie is out of the way.
		require.Eventually(t, func() bool {
			described, err := b.admin.DescribeTransactions(t.Context(), opts.Group+"-a")
			if err != nil {
				return false
			}
			return described[opts.Group+"-a"].ProducerEpoch > 0
		}, patience, 50*time.Millisecond)
		close(awake)
		<-aborted
		zombie.stop()
		b.want(out, 100)
		successor.stop()
	})
}

// The reply to the commit is lost, again and again: whatever the broker did
// counts, not what the client believes.
func TestLostReplyToTheCommit(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 2), b.topic("out", 1)
		b.fill(in, 2, 0, 400)
		lossy := newLossyDialer(26) // EndTxn
		opts := b.options("a", in)
		opts.Timeout = 3 * time.Second
		opts.Client = append(opts.Client, kgo.Dialer(lossy.dial), kgo.RequestRetries(1))
		lossy.lose(5)
		start(t, opts, copyTo(out))
		b.want(out, 400)
		require.Equal(t, int64(5), lossy.lost.Load(), "the fault did not fire")
	})
}

func TestLostReplyToTheOffsetCommit(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 2), b.topic("out", 1)
		b.fill(in, 2, 0, 400)
		lossy := newLossyDialer(28) // TxnOffsetCommit
		opts := b.options("a", in)
		opts.Client = append(opts.Client, kgo.Dialer(lossy.dial), kgo.RequestRetries(1))
		lossy.lose(4)
		start(t, opts, copyTo(out))
		b.want(out, 400)
		require.Equal(t, int64(4), lossy.lost.Load(), "the fault did not fire")
	})
}

func TestLostRepliesToProduce(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 2), b.topic("out", 1)
		b.fill(in, 2, 0, 400)
		lossy := newLossyDialer(0)
		opts := b.options("a", in)
		opts.Client = append(opts.Client, kgo.Dialer(lossy.dial))
		lossy.lose(4)
		start(t, opts, copyTo(out))
		b.want(out, 400)
		require.Equal(t, int64(4), lossy.lost.Load(), "the fault did not fire")
	})
}

func TestPartitionsAddedLater(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 1), b.topic("out", 1)
		b.fill(in, 1, 0, 10)
		opts := b.options("a", in)
		opts.Start.OutputTopics = []string{out}
		opts.Client = append(opts.Client, kgo.MetadataMaxAge(time.Second))
		start(t, opts, copyTo(out))
		b.want(out, 10)
		_, err := b.admin.CreatePartitions(t.Context(), 2, in)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			topics, err := b.admin.ListTopics(t.Context(), in)
			return err == nil && len(topics[in].Partitions) == 3
		}, patience, 50*time.Millisecond)
		grown := newBroker(t, b.addresses) // a client that knows all three
		grown.fill(in, 3, 10, 40)
		b.want(out, 40)
	})
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

func (h *healthRecorder) get(component string) (error, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	err, ok := h.state[component]
	return err, ok
}

func (b *broker) stops(opts kafka.TransactionOptions, out string, text string) {
	b.t.Helper()
	health := &healthRecorder{}
	opts.Health = health
	stopped := start(b.t, opts, func(context.Context, *kafka.Transaction) error {
		return errors.New("a record was handed out in spite of the gap")
	})
	require.Eventually(b.t, func() bool {
		err, ok := health.get("test offsets")
		return ok && err != nil && strings.Contains(err.Error(), text)
	}, patience, 20*time.Millisecond)
	stopped.stop()
	_ = out
}

func TestMissingOffsetsStop(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 1), b.topic("out", 1)
		b.fill(in, 1, 0, 10)
		b.fill(out, 1, 0, 3) // an earlier life of the group wrote these
		opts := b.options("a", in)
		opts.Start.OutputTopics = []string{out}
		b.stops(opts, out, in+"/0 [0,10)")

		opts = b.options("a", in)
		opts.Start = kafka.StartPolicy{OutputTopics: []string{out}, AcceptGap: true}
		start(t, opts, func(_ context.Context, tx *kafka.Transaction) error {
			for _, record := range tx.Records() {
				number, _ := strconv.Atoi(string(record.Value))
				tx.Produce(&kgo.Record{Topic: out, Value: []byte(strconv.Itoa(number + 3))})
			}
			return nil
		})
		b.want(out, 13)
	})
}

func TestRemovedRecordsStop(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 1), b.topic("out", 1)
		b.fill(in, 1, 0, 10)
		first := start(t, b.options("a", in), copyTo(out))
		b.want(out, 10)
		first.stop()
		b.fill(in, 1, 10, 30)
		remove := kadm.Offsets{}
		remove.AddOffset(in, 0, 20, -1)
		_, err := b.admin.DeleteRecords(t.Context(), remove)
		require.NoError(t, err)
		b.stops(b.options("a", in), out, in+"/0 [10,20)")

		opts := b.options("a", in)
		opts.Start.AcceptGap = true
		var got []string
		done := make(chan struct{})
		start(t, opts, func(_ context.Context, tx *kafka.Transaction) error {
			for _, record := range tx.Records() {
				got = append(got, string(record.Value))
			}
			if len(got) == 10 {
				close(done)
			}
			return nil
		})
		<-done
		require.Equal(t, "20", got[0])
	})
}

func TestTopicMadeAnewStops(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 1), b.topic("out", 1)
		b.fill(in, 1, 0, 5)
		offsets := kadm.Offsets{}
		offsets.AddOffset(in, 0, 9, -1)
		opts := b.options("a", in)
		require.NoError(t, b.admin.CommitAllOffsets(t.Context(), opts.Group, offsets))
		b.stops(opts, out, in+"/0 [9,5)")
	})
}

func TestBrokerAwayAtTheStartAndInBetween(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, listener.Close())
	directory := t.TempDir()
	up := func() *kfake.Cluster {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(directory))
		require.NoError(t, err)
		return cluster
	}
	cluster := up()
	b := newBroker(t, []string{fmt.Sprintf("127.0.0.1:%d", port)})
	in, out := b.topic("in", 2), b.topic("out", 1)
	b.fill(in, 2, 0, 100)
	cluster.Close()

	health := &healthRecorder{}
	opts := b.options("a", in)
	opts.Health = health
	running := start(t, opts, copyTo(out))
	ill := func() bool { err, ok := health.get("test kafka"); return ok && err != nil }
	well := func() bool { err, ok := health.get("test kafka"); return ok && err == nil }
	require.Eventually(t, ill, patience, 20*time.Millisecond)
	cluster = up()
	b.want(out, 100)
	require.Eventually(t, well, patience, 20*time.Millisecond)
	cluster.Close()
	require.Eventually(t, ill, patience, 20*time.Millisecond)
	cluster = up()
	defer cluster.Close()
	b.fill(in, 2, 100, 250)
	b.want(out, 250)
	running.stop()
}

func TestRunEndsInTimeWithoutABroker(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	b := newBroker(t, cluster.ListenAddrs())
	in := b.topic("in", 1)
	b.fill(in, 1, 0, 10)
	inside := make(chan struct{})
	running := start(t, b.options("a", in), func(ctx context.Context, tx *kafka.Transaction) error {
		tx.Produce(&kgo.Record{Topic: in, Value: []byte("x")})
		close(inside)
		<-ctx.Done()
		return ctx.Err()
	})
	<-inside
	cluster.Close()
	begun := time.Now()
	running.stop()
	require.Less(t, time.Since(begun), 25*time.Second)
}

func TestLag(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in := b.topic("in", 2)
		b.fill(in, 2, 0, 10)
		offsets := kadm.Offsets{}
		offsets.AddOffset(in, 0, 2, -1)
		require.NoError(t, b.admin.CommitAllOffsets(t.Context(), b.name("group"), offsets))
		lags, err := kafka.ReadLag(t.Context(), b.client, b.name("group"), in)
		require.NoError(t, err)
		byPartition := make(map[int32]kafka.Lag)
		for _, lag := range lags {
			byPartition[lag.Partition] = lag
		}
		require.Equal(t, []int32{0, 1}, slices.Sorted(maps.Keys(byPartition)))
		require.Equal(t, kafka.Lag{Topic: in, Partition: 0, Committed: 2, Stable: 3, HighWatermark: 3}, byPartition[0])
		require.Equal(t, kafka.Lag{Topic: in, Partition: 1, Committed: -1, Stable: 5, HighWatermark: 5}, byPartition[1])
	})
}
