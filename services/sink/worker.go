package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

var (
	// errStopped ends a worker whose partition goes to another owner, or whose
	// process ends: it takes no new work and tries nothing again.
	errStopped = errors.New("the partition's worker was stopped")
	// errAtEnd ends a worker whose partition is at the end of its run.
	errAtEnd = errors.New("the partition is at the end of the run")
	// errAbandoned is a fail point that was reached in a test.
	errAbandoned = errors.New("abandoned at a fail point")
)

// Step is a place between two durable steps.
type Step string

// The places where Options.Hook is called.
const (
	StepChosen    Step = "chosen"    // a batch is closed, nothing is recorded
	StepIntended  Step = "intended"  // its intent is committed, nothing is sent
	StepInserted  Step = "inserted"  // its rows are in the table, `to` is not committed
	StepLookedUp  Step = "looked up" // an unsettled batch: what is missing is known
	StepReattempt Step = "reattempt" // an unsettled batch: the next attempt is recorded
	StepCommitted Step = "committed" // `to` is committed
)

// worker owns one partition from assignment to revocation. One goroutine runs
// deliver; nothing else touches its batch, its position or its commits.
type worker struct {
	service   *Service
	shard     *shard // where all rows of the partition go
	partition int32
	queue     *queue
	log       *slog.Logger

	position int64   // one past what is in batches
	open     *intent // found at assignment
	shrunk   bool    // part of the open intent's range is known to be gone, and that is accepted

	committed    int64  // the committed offset
	acknowledged string // the hold that the last commit named
	looked       bool   // whether this worker has looked for a hold itself

	member  string // that the group has assigned the partition to
	topicID string // of the assignment; goes into every commit
	run     *run   // of a bounded sink; goes into every commit

	gather *gatherer
	spill  []arrival // taken from the queue, not in a batch yet

	intentAt    atomic.Int64 // when the intent now open was first recorded; 0: none
	unconfirmed atomic.Bool  // this worker recorded an intent that is open
	standing    bool         // the partition was reported as standing still
	// leaving is set when the process ends: a commit may then be made again while
	// the group settles a rebalance. A partition that is taken away has no such
	// time, since the rebalance waits for it.
	leaving atomic.Bool

	ctx      context.Context // ends with the assignment: nothing may be tried any more
	cancel   context.CancelFunc
	stopping chan struct{} // closed first: finish what was sent, begin nothing
	stopOnce func()
	done     chan struct{}
}

// deliver takes batch after batch through its durable steps. After each step it
// says what a crash there leaves behind, and why that is neither lost nor
// doubled.
func (w *worker) deliver(ctx context.Context) error {
	b, in, err := w.reread(ctx) // the open intent's range, or nil
	if err != nil {
		return err
	}
	recovered := b != nil
	for {
		if b == nil {
			if b, err = w.nextBatch(ctx); err != nil {
				return err
			}
			if err = w.mayIntend(ctx); err != nil {
				return err
			}
			in = w.intend(b)
			// Crash: nothing is recorded and nothing was sent. The next owner reads
			// from `from` and may choose another batch.
			if err = w.commit(ctx, b.from, in); err != nil {
				return err
			}
		}
		// Crash: the range is recorded. Its rows are not in the table, or all, or
		// those of some parts, or on their way. The next owner reads exactly this
		// range again and settles it by looking.
		if err = w.bring(ctx, b, in, recovered); err != nil {
			return err
		}
		// Crash: all rows are in, and the offset still says `from`. The next owner
		// settles the intent, finds every id, and only commits.
		following, next, err := w.readyBatch()
		if err != nil {
			return err
		}
		if err = w.commit(ctx, b.to, next); err != nil {
			return err
		}
		if err = w.hook(StepCommitted); err != nil {
			return err
		}
		// Crash: the batch is done for good, and the following one is where the
		// first note above (none) or the second one (some) says.
		w.finished(b, recovered)
		b, in, recovered = following, next, false
	}
}

// work is the worker's goroutine.
func (w *worker) work() {
	defer close(w.done)
	defer w.cancel()
	err := w.awaitShard()
	if err == nil {
		err = w.deliver(w.ctx)
	}
	if w.ctx.Err() != nil || errors.Is(err, errStopped) {
		// The cause of what failed last was the stop.
		if !errors.Is(err, errAbandoned) {
			err = errStopped
		}
	}
	w.queue.drop()
	w.service.workerEnded(w, err)
}

// stop lets the worker finish the insert that is under way and the commit of
// it, for at most grace, and then ends it. It returns when the worker's
// goroutine has ended, after which nothing of this assignment can commit.
func (w *worker) stop(grace time.Duration) {
	w.stopOnce()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
	}
	w.cancel()
	<-w.done
}

func (w *worker) stopRequested() bool {
	select {
	case <-w.stopping:
		return true
	default:
		return false
	}
}

// intend makes the intent of a batch's first attempt.
func (w *worker) intend(b *batch) *intent {
	return &intent{
		from: b.from, To: b.to, Records: len(b.records), IDs: b.ids, Attempt: 1,
		Target: w.shard.target(), At: w.service.now().Unix(),
	}
}

// finished gives the batch's memory back and counts it.
func (w *worker) finished(b *batch, recovered bool) {
	w.queue.release(b.bytes)
	metrics := w.service.metrics
	metrics.rows.Add(float64(len(b.rows)))
	metrics.batches.WithLabelValues(b.closed).Inc()
	if recovered {
		metrics.recovered.Inc()
		w.log.Info("the open intent is settled", "from", b.from, "to", b.to, "rows", len(b.rows))
	}
}

// hook runs the fail point of a step.
func (w *worker) hook(step Step) error {
	if w.service.options.Hook == nil {
		return nil
	}
	if err := w.service.options.Hook(w.partition, step); err != nil {
		return fmt.Errorf("%w: %s: %w", errAbandoned, step, err)
	}
	return nil
}

func (w *worker) subject() string {
	return fmt.Sprintf("%s/%d", w.service.topic, w.partition)
}
