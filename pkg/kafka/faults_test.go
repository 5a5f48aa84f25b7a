package kafka_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/tests/servers"
)

// logCount counts records with a message.
type logCount struct {
	slog.Handler
	message string
	count   *atomic.Int64
}

func countLog(log *slog.Logger, message string) (*slog.Logger, *atomic.Int64) {
	count := new(atomic.Int64)
	return slog.New(logCount{log.Handler(), message, count}), count
}

func (l logCount) Enabled(context.Context, slog.Level) bool { return true }
func (l logCount) Handle(ctx context.Context, record slog.Record) error {
	if record.Message == l.message {
		l.count.Add(1)
	}
	if l.Handler.Enabled(ctx, record.Level) {
		return l.Handler.Handle(ctx, record)
	}
	return nil
}
func (l logCount) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logCount{l.Handler.WithAttrs(attrs), l.message, l.count}
}
func (l logCount) WithGroup(name string) slog.Handler {
	return logCount{l.Handler.WithGroup(name), l.message, l.count}
}

// The broker commits and answers with an unknown error. The client takes that
// for an abort; only the coordinator knows better.
func TestCommitAnsweredWithAnUnknownError(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 2), b.topic("out", 1)
		b.fill(in, 2, 0, 400)
		lossy := newLossyDialer(26) // EndTxn
		lossy.patch = func(frame []byte) {
			// length, correlation id, tags, throttle time, then the error code
			frame[13], frame[14] = 0xff, 0xff
		}
		opts := b.options("a", in)
		var corrected *atomic.Int64
		opts.Log, corrected = countLog(opts.Log, "the Kafka session failed, starting another")
		opts.Client = append(opts.Client, kgo.Dialer(lossy.dial))
		lossy.lose(3)
		start(t, opts, copyTo(out))
		b.want(out, 400)
		require.Equal(t, int64(3), lossy.lost.Load(), "the fault did not fire")
		require.Positive(t, corrected.Load(), "no position was corrected: the fault did not have its effect")
	})
}

// The coordinator forgets the member in the middle of a transaction, as when
// its heartbeats did not come through for the session timeout.
func TestEvictedInATransaction(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 2), b.topic("out", 1)
		b.fill(in, 2, 0, 100)
		opts := b.options("a", in)
		var once sync.Once
		var ended time.Time
		inside, goOn := make(chan struct{}), make(chan struct{})
		aborted := make(chan struct{})
		opts.OnAbort = sync.OnceFunc(func() { ended = time.Now(); close(aborted) })
		start(t, opts, func(ctx context.Context, tx *kafka.Transaction) error {
			_ = copyTo(out)(ctx, tx)
			once.Do(func() { close(inside); <-goOn })
			return nil
		})
		<-inside
		b.evictAll(opts.Group)
		// Another member makes the coordinator hand the partitions on.
		start(t, b.options("b", in), copyTo(out))
		evicted := time.Now()
		close(goOn)
		<-aborted
		require.Less(t, ended.Sub(evicted), 8*time.Second)
		b.want(out, 100)
	})
}

func (b *broker) evictAll(group string) {
	b.t.Helper()
	described, err := b.admin.DescribeGroups(b.t.Context(), group)
	require.NoError(b.t, err)
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group = group
	for _, member := range described[group].Members {
		leaving := kmsg.NewLeaveGroupRequestMember()
		leaving.MemberID = member.MemberID
		request.Members = append(request.Members, leaving)
	}
	require.NotEmpty(b.t, request.Members)
	response, err := request.RequestWith(b.t.Context(), b.client)
	require.NoError(b.t, err)
	require.NoError(b.t, kerr.ErrorForCode(response.ErrorCode))
}

// A process that ignores its deadline finds its transaction aborted by the
// broker, with its epoch raised.
func TestTransactionThatTheBrokerTimedOut(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 1), b.topic("out", 1)
		b.fill(in, 1, 0, 20)
		opts := b.options("a", in)
		opts.Timeout = time.Second
		var once sync.Once
		start(t, opts, func(ctx context.Context, tx *kafka.Transaction) error {
			_ = copyTo(out)(ctx, tx)
			once.Do(func() {
				require.Eventually(t, func() bool {
					described, err := b.admin.DescribeTransactions(context.WithoutCancel(ctx), opts.Group+"-a")
					return err == nil && described[opts.Group+"-a"].State != "Ongoing"
				}, patience, 100*time.Millisecond)
			})
			return nil
		})
		b.want(out, 20)
	})
}

// A record that its topic can't take aborts, is told, and is not passed over.
func TestRecordTooLarge(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, b *broker) {
		in, out := b.topic("in", 1), b.topic("out", 1)
		b.fill(in, 1, 0, 10)
		health := &healthRecorder{}
		opts := b.options("a", in)
		opts.Health = health
		var small atomic.Bool
		start(t, opts, func(ctx context.Context, tx *kafka.Transaction) error {
			if !small.Load() {
				tx.Produce(&kgo.Record{Topic: out, Value: make([]byte, 4<<20)})
			}
			return copyTo(out)(ctx, tx)
		})
		require.Eventually(t, func() bool {
			_, err := health.get("test kafka")
			return errors.Is(err, kerr.MessageTooLarge)
		}, patience, 20*time.Millisecond)
		small.Store(true)
		b.want(out, 10)
	})
}

// A member that was thrown out while it rejoined is another member: it may be
// given the partitions that it had, but not go on where it was.
func TestMemberThrownOutWhileItRejoins(t *testing.T) {
	for name, stays := range map[string]bool{"the other has left": false, "the other stays": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := servers.EmbeddedKafka(t, "")
			b := newBroker(t, server.Addresses())
			in, out := b.topic("in", 1), b.topic("out", 1)
			first := start(t, b.options("a", in), copyTo(out))
			b.fill(in, 1, 0, 100)
			b.want(out, 100)

			before := servers.GroupMembers(t, b.client, b.name("group"))
			require.Len(t, before, 1)
			rejoin := servers.ThrowOut(t, server, b.client, b.name("group"), before[0])
			second := start(t, b.options("b", in), copyTo(out))
			b.fill(in, 1, 100, 160)
			b.want(out, 160)
			if !stays {
				second.stop()
			}
			rejoin()
			if stays {
				require.Eventually(t, func() bool { return len(servers.GroupMembers(t, b.client, b.name("group"))) == 2 }, patience, 10*time.Millisecond)
				second.stop()
			}
			b.fill(in, 1, 160, 200)
			b.want(out, 200)
			first.stop()
		})
	}
}

// freezer is how a process dials that hangs between freeze and thaw.
type freezer struct {
	mu          sync.Mutex
	connections []net.Conn
	thawed      chan struct{} // nil: it does not hang
}

func (f *freezer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	f.mu.Lock()
	thawed := f.thawed
	f.mu.Unlock()
	if thawed != nil {
		select {
		case <-thawed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	connection, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.connections = append(f.connections, connection)
	}
	return connection, err
}

func (f *freezer) freeze() (thaw func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.thawed = make(chan struct{})
	for _, connection := range f.connections {
		_ = connection.Close()
	}
	return sync.OnceFunc(func() { close(f.thawed) })
}

// What others have worked off, and retention has removed, while a member was
// thrown out is no gap to it.
func TestRecordsRemovedWhileThrownOutAreNoGap(t *testing.T) {
	for name, accept := range map[string]bool{"gaps stop": false, "gaps are accepted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := servers.EmbeddedKafka(t, "")
			b := newBroker(t, server.Addresses())
			in, out := b.topic("in", 1), b.topic("out", 1)
			frozen := &freezer{}
			opts := b.options("a", in)
			opts.Client = append(opts.Client, kgo.Dialer(frozen.dial), kgo.DialTimeout(patience))
			opts.Start.AcceptGap = accept
			var gaps atomic.Int64
			opts.OnGap = func(context.Context, kafka.Gap, int64) error {
				gaps.Add(1)
				return nil
			}
			health := &healthRecorder{}
			opts.Health = health
			first := start(t, opts, copyTo(out))
			b.fill(in, 1, 0, 100)
			b.want(out, 100)

			before := servers.GroupMembers(t, b.client, b.name("group"))
			require.Len(t, before, 1)
			rejoin := servers.ThrowOut(t, server, b.client, b.name("group"), before[0])
			thaw := frozen.freeze()
			t.Cleanup(thaw)
			rejoin()
			second := start(t, b.options("b", in), copyTo(out))
			b.fill(in, 1, 100, 160)
			b.want(out, 160)
			second.stop()
			ends, err := b.admin.ListEndOffsets(t.Context(), in)
			require.NoError(t, err)
			end, _ := ends.Lookup(in, 0)
			b.deleteBefore(in, 0, end.Offset)

			thaw()
			b.fill(in, 1, 160, 200)
			b.want(out, 200)
			require.Zero(t, gaps.Load())
			_, stopped := health.get("test offsets")
			require.NoError(t, stopped)
			first.stop()
		})
	}
}
