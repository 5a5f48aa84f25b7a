package split

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/topics"
)

// Stage names this part in dead letters and metrics.
const Stage = "fetcher"

// s3Component is the store's name in the health report.
const s3Component = "s3"

// Health is told whether the object store answers.
type Health interface {
	Report(component string, err error)
}

// Step is a point between two durable steps of a transaction.
type Step string

// The steps of process.
const (
	StepBegun Step = "begun" // what the last transaction did is committed, or void
	StepRead  Step = "read"  // lines are produced
	StepTold  Step = "told"  // where to go on is produced; next is the commit
)

// Options of a Splitter.
type Options struct {
	Fetcher   config.Fetcher
	LineLimit int64
	Sources   []config.Source
	Topics    topics.Names
	Store     objectStore
	Log       logReader
	Health    Health
	Logger    *slog.Logger
	Metrics   *Metrics
	// AtStep, for tests, runs at every step of every transaction; its error ends
	// process.
	AtStep func(Step) error
}

// Splitter turns records of `objects` into lines in `raw`. Its methods are
// never called at the same time.
type Splitter struct {
	opts    Options
	sources map[string]*config.Source
	strange map[string]bool // sources that are not configured, and were warned of
	onVoid  func(partition int32)
	life    context.Context // of the open streams: until Close
	end     context.CancelFunc
	log     *slog.Logger
	metrics *Metrics
	dedupe  *dedupe
	streams *streams
	memory  memory
	counted tally
	busy    time.Time // when there was something to do last, or all had been waited for
}

// New makes a Splitter. It holds connections until Close.
func New(opts Options) *Splitter {
	if opts.AtStep == nil {
		opts.AtStep = func(Step) error { return nil }
	}
	s := &Splitter{
		opts:    opts,
		sources: make(map[string]*config.Source, len(opts.Sources)),
		strange: make(map[string]bool),
		onVoid:  func(int32) {},
		log:     opts.Logger,
		metrics: opts.Metrics,
		streams: newStreams(opts.Fetcher.OpenObjects, opts.Metrics),
		memory:  memory{new(blocks), newAhead(int64(opts.Fetcher.SliceSize))},
	}
	s.dedupe = newDedupe(opts.Log, opts.Fetcher.DedupeHorizon, opts.Fetcher.DedupeObjects, opts.Metrics, opts.Logger)
	s.life, s.end = context.WithCancel(context.Background())
	for i := range opts.Sources {
		s.sources[opts.Sources[i].ID] = &opts.Sources[i]
	}
	return s
}

// OnVoid has f called when a void is met in a partition of `objects`. It is to be
// set before the first transaction.
func (s *Splitter) OnVoid(f func(partition int32)) { s.onVoid = f }

// transaction is what the splitter needs of *kafka.Transaction.
type transaction interface {
	Records() []*kgo.Record
	Produce(*kgo.Record)
	Err() error
}

// Process does one transaction's work within ctx. When stopping is done it
// begins nothing more and comes to an end.
func (s *Splitter) Process(ctx, stopping context.Context, tx *kafka.Transaction) error {
	return s.process(ctx, stopping, tx)
}

// process is the order of the durable steps. Lines, links, dead letters, what
// the ledger is told and the offsets of the records they came from are one Kafka transaction, so "and if
// we die here?" has one answer everywhere: nothing of it happened, and the
// next owner of the partition does it again from the same records.
func (s *Splitter) process(ctx, stopping context.Context, tx transaction) (err error) {
	// Being called again without Aborted in between is how we know that the last
	// transaction is committed. Died before this: the links are in the log, the
	// streams are gone, and the next owner reads up to where the links say.
	s.streams.committed()
	s.dedupe.committed()
	s.memory.blocks.committed()
	if err := s.opts.AtStep(StepBegun); err != nil {
		return err
	}
	// Decides by the log alone which records are work, so after dying here the
	// next owner decides alike.
	work := s.plan(stopping, tx)
	defer func() {
		if err != nil { // aborted: what was read is ahead of the log
			s.giveUpAll(work)
		}
	}()

	// Produces lines. Died here: they are part of an open transaction, and no
	// reader of committed records ever sees them.
	s.read(ctx, stopping, tx, work)
	if err := s.opts.AtStep(StepRead); err != nil {
		return err
	}
	// The store doesn't answer at all: none of this counts, the same records
	// come again after a pause.
	if err := s.storeAway(ctx, work); err != nil {
		return errors.Join(kafka.ErrAbort, err)
	}
	// Produces, for each piece of work, what makes it go on or end: the next link
	// to the same partition, a later try, or a dead letter, and in the end what the
	// ledger has to know. Died here: as above, neither the lines nor the links are
	// there.
	for _, p := range work.pieces {
		s.conclude(tx, p)
	}
	// The commit follows: lines, links and offsets become visible at once. Died
	// before it: as above. Died after it: the links are the next work of whoever
	// owns the partition.
	return s.opts.AtStep(StepTold)
}

// Assigned reads back what was announced before the positions.
func (s *Splitter) Assigned(ctx context.Context, positions map[int32]int64) error {
	if err := s.dedupe.load(ctx, positions); err != nil {
		return fmt.Errorf("read back what was announced: %w", err)
	}
	return nil
}

// Revoked forgets partitions that are someone else's now.
func (s *Splitter) Revoked(partitions []int32) {
	for _, partition := range partitions {
		s.dedupe.drop(partition)
		s.streams.drop(partition)
	}
}

// Aborted goes back to what the log says.
func (s *Splitter) Aborted() {
	s.streams.aborted()
	s.memory.blocks.aborted()
	s.dedupe.aborted()
	s.counted.drop()
}

// Committed counts what the transaction did, once the broker has confirmed it.
func (s *Splitter) Committed() { s.counted.settle(s.metrics) }

// Close ends the open streams.
func (s *Splitter) Close() {
	s.streams.drop(-1)
	s.end()
}

// waits bound the parts of one transaction.
type waits struct {
	soft, hard context.Context
	cancel     context.CancelFunc
}

// Of the time that process has, the part after which nothing more is begun
// and the part after which a blocked read is ended.
const (
	softPart = 0.6
	hardPart = 0.85
)

func newWaits(ctx, stopping context.Context) waits {
	now := time.Now()
	deadline, bounded := ctx.Deadline()
	if !bounded {
		deadline = now.Add(time.Minute)
	}
	left := float64(deadline.Sub(now))
	hard, cancelHard := context.WithDeadline(ctx, now.Add(time.Duration(left*hardPart)))
	soft, cancelSoft := context.WithDeadline(hard, now.Add(time.Duration(left*softPart)))
	// A process that is about to stop begins nothing more.
	stop := context.AfterFunc(stopping, cancelSoft)
	return waits{soft: soft, hard: hard, cancel: func() { stop(); cancelSoft(); cancelHard() }}
}
