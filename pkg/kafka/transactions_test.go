package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/kafka"
)

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
	ill := func() bool { ok, err := health.get("test kafka"); return ok && err != nil }
	well := func() bool { ok, err := health.get("test kafka"); return ok && err == nil }
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
