package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/pkg/failpoint"
)

// openerTimeout is how long End may hold up a rebalance. When the group has
// forgotten this member, End waits for a callback that waits for End; letting
// rebalances through ends that, with an abort.
const openerTimeout = 2 * time.Second

// errOffsets: what would be committed is not what was processed.
var errOffsets = errors.New("the offsets to commit are not those of the records processed")

type processFunc = func(ctx context.Context, tx *Transaction) error

// runSession works in one session until ctx is done or the session fails.
func (t *Transactions) runSession(ctx context.Context, process processFunc) error {
	s, err := t.openSession(ctx)
	if err != nil {
		t.health.setGroup(err)
		return err
	}
	defer s.close()
	for ctx.Err() == nil {
		err := s.turn(ctx, process)
		var stage *stageError
		switch {
		case err == nil:
		case errors.As(err, &stage):
			t.health.setGroup(err)
			delay.For(ctx, t.backoff.NextBackOff())
		default:
			var failed *processError
			if ctx.Err() == nil && !errors.As(err, &failed) {
				t.health.setGroup(err)
			}
			return err
		}
	}
	return nil
}

// turn is one transaction, or none when nothing came.
//
//	settle       the stage knows which partitions are its own
//	poll         records after the committed offsets; rebalances wait from here
//	begin        local
//	process      produces into the open transaction
//	flush, end   offsets and output become visible together
//	rewind       after anything but a certain commit: back to the broker's offsets
//
// A crash anywhere before the end leaves an open transaction that the broker
// aborts (at once when the instance comes back, else after its timeout): the
// records come again. A crash after it leaves nothing to do. Losing the reply
// of the end is no different: whoever is next asks the broker.
func (s *session) turn(ctx context.Context, process processFunc) error {
	s.awaitGroup(ctx)
	if err := s.settle(ctx); err != nil {
		return err
	}
	defer s.group.AllowRebalance()
	if _, err := s.membership.ID(); err != nil {
		return err
	}
	records, err := s.poll(ctx)
	if err != nil || len(records) == 0 {
		return err
	}
	// Again, as the poll lets rebalances through: whoever had the partitions in
	// between may have gone further.
	member, err := s.membership.ID()
	if err != nil {
		return err
	}
	failpoint.Here("transaction polled")
	if !s.stable() {
		// A transaction would be refused. What was polled is not processed, so it
		// must be polled again.
		if _, err := s.group.End(ctx, kgo.TryAbort); err != nil {
			return fmt.Errorf("rewind after a rebalance: %w", err)
		}
		return nil
	}
	started := time.Now()
	if err := s.group.Begin(); err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	// Produced records end with this context, so it outlives process.
	txCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.t.opts.Timeout)
	defer cancel()
	tx := newTransaction(txCtx, s.client, member, records)
	failpoint.Here("transaction begun")
	processed := s.process(ctx, tx, process)
	failpoint.Here("transaction processed")
	committed, err := s.end(ctx, tx, processed == nil)
	s.t.metrics.seconds.Observe(time.Since(started).Seconds())
	return s.conclude(ctx, tx, processed, committed, err)
}

// process gives the stage a quarter of the transaction's time. When Run's
// context ends meanwhile it may finish, within finishTimeout.
func (s *session) process(ctx context.Context, tx *Transaction, process processFunc) error {
	workCtx, cancel := outliving(ctx, s.t.opts.Timeout/4, finishTimeout)
	defer cancel()
	err := process(workCtx, tx)
	if err != nil && workCtx.Err() != nil {
		return fmt.Errorf("%w: %w", errOutOfTime, err)
	}
	return err
}

// outliving is a context that ends after limit, and at most grace after ctx.
func outliving(ctx context.Context, limit, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(grace, cancel)
		context.AfterFunc(longer, func() { timer.Stop() })
	})
	return longer, func() { stop(); cancel() }
}

var errOutOfTime = errors.New("the transaction's time is over")

// end commits or aborts. committed is true only when the broker confirmed it;
// an error means that the session can't go on.
func (s *session) end(ctx context.Context, tx *Transaction, commit bool) (committed bool, err error) {
	endCtx, cancel := outliving(ctx, s.t.opts.Timeout, closeTimeout)
	defer cancel()
	endCtx = kgo.PreTxnCommitFnContext(endCtx, tx.verify)
	opener := time.AfterFunc(openerTimeout, s.group.AllowRebalance)
	defer opener.Stop()

	if commit {
		// franz-go commits what was written even if something was not.
		if err := s.client.Flush(endCtx); err != nil {
			return false, fmt.Errorf("write the transaction's records: %w", err)
		}
		commit = tx.Err() == nil
		failpoint.Here("transaction flushed")
	}
	committed, err = s.group.End(endCtx, kgo.TransactionEndTry(commit))
	if errors.Is(err, errOffsets) || errors.Is(err, ErrThrownOut) {
		return false, nil // refused before anything was sent, and aborted
	}
	if err != nil {
		return false, fmt.Errorf("end the transaction: %w", err)
	}
	return committed, nil
}

// verify compares what is about to be committed with what was processed. They
// differ when the assignment was torn down under an open transaction: output
// without its offsets would come twice.
func (tx *Transaction) verify(request *kmsg.TxnOffsetCommitRequest) error {
	if err := CheckMember(request.MemberID, tx.member); err != nil {
		return err
	}
	count := 0
	for _, topic := range request.Topics {
		for _, partition := range topic.Partitions {
			if next, ok := tx.next[topic.Topic][partition.Partition]; !ok || next != partition.Offset {
				return fmt.Errorf("%w: %s/%d offset %d", errOffsets, topic.Topic, partition.Partition, partition.Offset)
			}
			count++
		}
	}
	want := 0
	for _, partitions := range tx.next {
		want += len(partitions)
	}
	if count != want {
		return fmt.Errorf("%w: %d partitions of %d", errOffsets, count, want)
	}
	return nil
}

// conclude draws the consequences of an ended transaction.
func (s *session) conclude(ctx context.Context, tx *Transaction, processed error, committed bool, ended error) error {
	t := s.t
	if committed {
		failpoint.Here("transaction committed")
		t.metrics.committed.Inc()
		t.metrics.records.Add(float64(len(tx.records)))
		t.limit = min(2*t.limit, t.opts.MaxRecords)
		t.backoff.Reset()
		t.health.setGroup(nil)
		if t.opts.OnCommit != nil {
			t.opts.OnCommit()
		}
		return nil
	}
	t.metrics.aborted.Inc()
	if t.opts.OnAbort != nil {
		t.opts.OnAbort()
	}
	if processed != nil && !errors.Is(processed, ErrAbort) && !errors.Is(processed, errOutOfTime) {
		return &processError{processed}
	}
	if ctx.Err() == nil && (ended != nil || errors.Is(processed, errOutOfTime)) {
		// Too much for the time there is: brokers may be slow, too.
		t.limit = max(min(t.limit, len(tx.records))/2, 1)
	}
	if ended != nil {
		return ended
	}
	if ctx.Err() != nil {
		return nil
	}
	if err := s.rewind(ctx); err != nil {
		return err
	}
	reason := errors.Join(processed, tx.Err())
	if reason == nil {
		t.log.Debug("transaction aborted by a rebalance")
		return nil
	}
	t.health.setGroup(reason)
	t.log.Debug("transaction aborted, its records come again", "error", reason)
	// Not in a rebalance's way, and back to the broker's offsets already.
	s.group.AllowRebalance()
	delay.For(ctx, t.backoff.NextBackOff())
	return nil
}

// poll waits for records, then gathers more for a moment.
func (s *session) poll(ctx context.Context) ([]*kgo.Record, error) {
	pollCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.wake = cancel
	pending := s.rebalanced || s.unprepared()
	s.mu.Unlock()
	if pending {
		return nil, nil
	}
	var (
		records []*kgo.Record
		size    int
		limit   = s.t.limit
	)
	take := func(ctx context.Context) error {
		fetches := s.group.PollRecords(ctx, limit-len(records))
		if err := s.fetchErrors(ctx, fetches); err != nil {
			return err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			records = append(records, record)
			size += len(record.Value)
		})
		return nil
	}
	if err := take(pollCtx); err != nil || len(records) == 0 {
		return nil, err
	}
	gatherCtx, stop := context.WithTimeout(pollCtx, s.t.opts.Linger)
	defer stop()
	for len(records) < limit && size < maxGather && gatherCtx.Err() == nil {
		if err := take(gatherCtx); err != nil {
			return nil, err
		}
	}
	return records, nil
}

func (s *session) unprepared() bool {
	for _, a := range s.assigned {
		if !a.prepared {
			return true
		}
	}
	return false
}

// fetchErrors sorts out what came instead of records. An error ends the session.
func (s *session) fetchErrors(ctx context.Context, fetches kgo.Fetches) error {
	var ended error
	pause := false
	fetches.EachError(func(topic string, partition int32, err error) {
		var (
			lost  *kgo.ErrDataLoss
			group *kgo.ErrGroupSession
		)
		switch {
		case errors.Is(err, kgo.ErrClientClosed):
			ended = err
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		case errors.As(err, &group): // reported by the hook
		case errors.As(err, &lost):
			s.t.log.Error("the broker has lost records that were consumed", "error", err)
		case errors.Is(err, kerr.OffsetOutOfRange):
			ended = errors.Join(ended, s.outOfRange(ctx, topic, partition))
		default:
			pause = true
			s.t.health.setGroup(fmt.Errorf("fetch %s/%d: %w", topic, partition, err))
		}
	})
	if pause && ended == nil {
		delay.For(ctx, errorPause)
	}
	return ended
}

// outOfRange stops a partition whose next record has been removed before it
// was read (retention), or moves it past the gap when that is accepted. Its error
// ends the session.
func (s *session) outOfRange(ctx context.Context, topic string, partition int32) error {
	only := map[string][]int32{topic: {partition}}
	s.client.PauseFetchPartitions(only)
	position := s.client.CommittedOffsets()[topic][partition]
	start, err := s.t.opts.Start.DecideAgain(ctx, s.client, s.t.opts.Group, topic, partition, position.Offset)
	if errors.Is(err, ErrThrownOut) {
		return err
	}
	if err == nil {
		err = s.t.accept(ctx, start)
	}
	if err != nil {
		// It is fetched again, and comes back here.
		s.t.health.setGroup(err)
		s.client.ResumeFetchPartitions(only)
		return nil
	}
	for _, gap := range start.Gaps {
		s.t.reportGap(gap)
	}
	to, ok := start.From[topic][partition]
	if !ok {
		return nil
	}
	s.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {partition: {Epoch: -1, Offset: to}}})
	s.client.ResumeFetchPartitions(only)
	return nil
}
