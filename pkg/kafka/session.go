package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/failpoint"
)

// session is one membership in the group with one transactional client. It
// ends with the first error after which the producer's state is not certain;
// the next session fences whatever this one left behind.
//
// Rebalances wait while polled records are in hand (BlockRebalanceOnPoll). A
// transaction is bounded well below the rebalance timeout, so a rebalance
// normally finds no transaction to abort.
type session struct {
	t      *Transactions
	group  *kgo.GroupTransactSession
	client *kgo.Client
	ctx    context.Context // of the client
	cancel context.CancelFunc
	done   sync.WaitGroup // the watchers

	// handed are the partitions between OnAssigned and OnRevoked. Only Run's
	// goroutine touches it.
	handed map[topicPartition]bool

	membership Membership // the session ends when it does

	mu       sync.Mutex
	assigned map[topicPartition]assignment
	sequence uint64
	// rebalanced: a callback has marked the transact session as failed; End
	// without a transaction clears the mark.
	rebalanced bool
	joined     chan struct{} // closed while the member is in a stable group
	wake       context.CancelFunc
}

// assignment is one coming of a partition. Its sequence tells it from an
// earlier coming of the same partition.
type assignment struct {
	sequence uint64
	position int64
	prepared bool // OnAssigned has run, records may come
	seen     bool // the client has taken the position over
}

func (t *Transactions) openSession(ctx context.Context) (*session, error) {
	s := &session{
		t:        t,
		handed:   make(map[topicPartition]bool),
		assigned: make(map[topicPartition]assignment),
		joined:   make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	opts := append(slices.Clone(t.opts.Client),
		kgo.WithContext(s.ctx),
		kgo.WithHooks(s),
		kgo.ConsumerGroup(t.opts.Group),
		kgo.ConsumeTopics(t.opts.Topics...),
		kgo.TransactionalID(t.TransactionalID()),
		kgo.TransactionTimeout(t.opts.Timeout),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// The end of a transaction takes an offset too. It is committed with the
		// records: a group that stood before it for ever would, once retention has
		// emptied a quiet partition, seem to have missed something.
		kgo.KeepControlRecords(),
		kgo.ConsumeStartOffset(kgo.NoResetOffset()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(s.onAssigned),
		kgo.OnPartitionsRevoked(s.onRevoked),
		kgo.OnPartitionsLost(s.onLost),
		kgo.AdjustFetchOffsetsFn(s.adjust),
	)
	var err error
	if s.group, err = kgo.NewGroupTransactSession(opts...); err != nil {
		s.cancel()
		return nil, fmt.Errorf("make the Kafka client: %w", err)
	}
	s.done.Go(func() { t.health.watch(s.ctx, s.client, t.opts.Topics) })
	s.done.Go(func() { WatchLag(s.ctx, s.client, t.opts.Group, t.metrics.lag, t.opts.Topics...) })
	s.done.Go(func() { watchOpenTransactions(s.ctx, s.client, t.opts.Group, t.metrics.open) })

	// What an earlier run of this instance left open holds up its partitions'
	// committed offsets, and everyone who reads the output, until the broker's
	// timeout. Getting the producer id aborts it now.
	for ctx.Err() == nil {
		initCtx, cancel := context.WithTimeout(ctx, t.opts.Timeout)
		_, _, err = s.client.ProducerID(initCtx)
		cancel()
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	s.close()
	return nil, fmt.Errorf("initialize producer %s: %w", t.TransactionalID(), err)
}

// OnNewClient is franz-go's hook: callbacks may run before NewClient returns.
func (s *session) OnNewClient(client *kgo.Client) { s.client = client }

// OnGroupManageError is franz-go's hook for errors of group membership. The
// client joins again by itself.
func (s *session) OnGroupManageError(err error) {
	s.t.health.setGroup(fmt.Errorf("group %s: %w", s.t.opts.Group, err))
}

// close takes no longer than closeTimeout, broker or not.
func (s *session) close() {
	Leave(s.client, s.cancel, closeTimeout/2, s.t.log)
	s.done.Wait()
	s.dropHanded(func(topicPartition) bool { return true })
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := make(map[topicPartition]bool, len(s.assigned))
	for partition := range s.assigned {
		gone[partition] = true
	}
	s.t.health.clear(gone)
	s.t.metrics.stopped.Set(float64(s.t.health.stoppedPartitions()))
}

// onAssigned runs after every rejoin, and ends the session of a member that is
// another one by now.
func (s *session) onAssigned(_ context.Context, client *kgo.Client, _ map[string][]int32) {
	thrownOut := s.membership.Assigned(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	if thrownOut {
		s.wakeLocked()
	}
	select {
	case <-s.joined:
	default:
		close(s.joined)
	}
	s.t.health.setGroup(nil)
}

// onRevoked marks that the transact session will refuse the next commit, and
// stops polling so that the mark is cleared. It is also called when nothing is
// taken away: the member joins anew.
func (s *session) onRevoked(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	defer failpoint.Here("group rejoin")
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.joined:
		s.joined = make(chan struct{})
	default:
	}
	s.rebalanced = true
	gone := make(map[topicPartition]bool)
	for topic, numbers := range partitions {
		for _, number := range numbers {
			gone[topicPartition{topic, number}] = true
		}
	}
	s.t.health.clear(gone)
	s.t.metrics.stopped.Set(float64(s.t.health.stoppedPartitions()))
	s.wakeLocked()
}

// onLost is onRevoked where the client knows that it was thrown out.
func (s *session) onLost(ctx context.Context, client *kgo.Client, partitions map[string][]int32) {
	s.onRevoked(ctx, client, partitions)
	s.membership.Lost()
}

func (s *session) wakeLocked() {
	if s.wake != nil {
		s.wake()
	}
}

// adjust decides where to begin in newly assigned partitions. It runs for
// every coming of a partition, in the client's goroutine, before the client
// consumes it. The partitions stay paused until OnAssigned has run.
func (s *session) adjust(ctx context.Context, fetched map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	start, err := s.t.opts.Start.Decide(ctx, s.client, s.t.opts.Group, Committed(fetched))
	if err == nil {
		err = s.t.accept(ctx, start)
	}
	if err == nil {
		err = CommitStart(ctx, s.client, start.Commit)
	}
	if err != nil {
		s.t.health.setGroup(err)
		if ctx.Err() == nil && errors.Is(err, context.Canceled) {
			// franz-go takes a cancellation for leaving the group.
			return nil, fmt.Errorf("%v", err) //nolint:errorlint // just so
		}
		return nil, err
	}
	s.t.reportGaps(start.Gaps, fetched)

	s.mu.Lock()
	defer s.mu.Unlock()
	pause := make(map[string][]int32)
	for topic, partitions := range start.From {
		for partition, position := range partitions {
			s.sequence++
			s.assigned[topicPartition{topic, partition}] = assignment{sequence: s.sequence, position: position}
			pause[topic] = append(pause[topic], partition)
		}
	}
	s.client.PauseFetchPartitions(pause)
	s.wakeLocked()
	return start.Offsets(fetched), nil
}

func (t *Transactions) reportGaps(gaps []Gap, decided map[string]map[int32]kgo.Offset) {
	again := make(map[topicPartition]bool)
	for topic, partitions := range decided {
		for partition := range partitions {
			again[topicPartition{topic, partition}] = true
		}
	}
	t.health.clear(again)
	for _, gap := range gaps {
		t.reportGap(gap)
	}
	t.metrics.stopped.Set(float64(t.health.stoppedPartitions()))
}

// accept hands the accepted gaps to OnGap. Died after it, the gap is found again.
func (t *Transactions) accept(ctx context.Context, start Start) error {
	for _, gap := range start.Gaps {
		if !gap.Accepted || t.opts.OnGap == nil {
			continue
		}
		if err := t.opts.OnGap(ctx, gap, start.From[gap.Topic][gap.Partition]); err != nil {
			return fmt.Errorf("before going on after a gap in %s/%d: %w", gap.Topic, gap.Partition, err)
		}
	}
	return nil
}

func (t *Transactions) reportGap(gap Gap) {
	attributes := []any{
		"topic", gap.Topic, "partition", gap.Partition, "from", gap.From, "to", gap.To, "reason", gap.Reason,
	}
	if gap.Accepted {
		t.metrics.acceptedGaps.Inc()
		t.metrics.acceptedRecords.Add(float64(gap.Size()))
		t.log.Error("records are missing; going on after the gap as configured", attributes...)
		return
	}
	t.health.stop(gap)
	t.metrics.stopped.Set(float64(t.health.stoppedPartitions()))
	t.log.Error("records are missing; the partition stops (kafka.acceptGap goes on without them)", attributes...)
}

// awaitGroup waits until the member is in a stable group. A transaction begun
// while the group forms could wait for its commit longer than it may live.
func (s *session) awaitGroup(ctx context.Context) {
	s.mu.Lock()
	joined := s.joined
	s.mu.Unlock()
	select {
	case <-joined:
	case <-ctx.Done():
	}
}

func (s *session) stable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.joined:
		return !s.rebalanced
	default:
		return false
	}
}

// rewind makes sure that the client's position is the committed offsets that
// the coordinator has. After a lost reply the client's memory may be wrong
// either way.
func (s *session) rewind(ctx context.Context) error {
	s.mu.Lock()
	before := make(map[topicPartition]uint64, len(s.assigned))
	for partition, a := range s.assigned {
		before[partition] = a.sequence
	}
	s.mu.Unlock()

	admin := kadm.NewClient(s.client)
	committed, err := backoff.Retry(ctx, func() (Positions, error) {
		return committedOffsets(ctx, admin, s.t.opts.Group)
	}, backoff.WithBackOff(newBackoff()), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		s.t.log.Debug("reading the committed offsets after an abort, trying again", "error", err)
	}))
	if err != nil {
		return err
	}
	return s.comparePositions(committed, before)
}

// errPositions: the client goes on from another offset than the group's. The
// session ends, so that the stage is assigned the partitions anew, at the
// offsets that hold: what it undid with the abort may have been committed.
var errPositions = errors.New("the committed offsets are not those remembered")

// comparePositions leaves out partitions that have come anew since before:
// their position is from the coordinator and newer than ours.
func (s *session) comparePositions(committed Positions, before map[topicPartition]uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, partitions := range s.client.CommittedOffsets() {
		for partition, have := range partitions {
			offset, ok := committed[topic][partition]
			key := topicPartition{topic, partition}
			if ok && offset != have.Offset && s.assigned[key].sequence == before[key] {
				return fmt.Errorf("%w: %s/%d is at %d, not %d", errPositions, topic, partition, offset, have.Offset)
			}
		}
	}
	return nil
}

// errorPause keeps a fetch error that comes at once again from spinning.
const errorPause = 500 * time.Millisecond
