package enricher

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/topics"
)

// blockSize is how many lines a goroutine takes at a time: enough to make the
// hand-over cheap, few enough that producing starts early.
const blockSize = 128

// work turns lines into records on several goroutines, and produces them in
// the order of the lines.
type work struct {
	names   topics.Names
	sources map[string]*audit.Source
	metrics *metrics
	limits  limits
	workers []*worker

	// What the last transaction put together. Its buffers are used again by the
	// next, unless it was aborted: then the client may still hold them.
	blocks []*block
	// counted waits for the outcome of the transaction it belongs to.
	counted tally
	ledger  ledger
}

// limits are what one record may hold.
type limits struct {
	normalized int // bytes of a row's value
	deadLetter int // bytes of a dead letter's value
}

// framing is left free in a record for key, headers and Kafka's batch.
const framing = 64 << 10

func newWork(opts Options, concurrency int, locator func() audit.Locator, metrics *metrics) *work {
	w := &work{
		names:   opts.Topics,
		sources: opts.Sources,
		metrics: metrics,
		limits: limits{
			normalized: int(min(topics.MaxNormalizedBytes(opts.LineLimit), 1<<30)) - framing,
			deadLetter: int(topics.MaxMessageBytes(opts.LineLimit)) - framing,
		},
	}
	for range concurrency {
		w.workers = append(w.workers, newWorker(w, audit.NewNormalizer(locator())))
	}
	return w
}

// run gives every line its outcome, within ctx.
func (w *work) run(ctx context.Context, lines []*kgo.Record, produce func(*kgo.Record)) error {
	started := time.Now()
	count := (len(lines) + blockSize - 1) / blockSize
	for len(w.blocks) < count {
		w.blocks = append(w.blocks, &block{})
	}
	blocks := w.blocks[:count]
	for i, b := range blocks {
		b.reset(lines[i*blockSize : min((i+1)*blockSize, len(lines))])
	}

	var next atomic.Int64
	var done sync.WaitGroup
	for _, worker := range w.workers[:min(len(w.workers), count)] {
		done.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				worker.do(blocks[i])
			}
		})
	}
	defer done.Wait()
	for i, b := range blocks {
		select {
		case <-b.ready:
		case <-ctx.Done():
			return fmt.Errorf("normalize %d lines, after %d: %w", len(lines), i*blockSize, ctx.Err())
		}
		for j := range b.records {
			produce(&b.records[j])
		}
		w.counted.add(&b.tally)
		w.ledger.add(b.others)
	}
	if err := w.ledger.tell(w.names.Ledger, produce); err != nil {
		return err
	}
	w.counted.seconds = time.Since(started).Seconds()
	w.counted.transactions = 1
	return nil
}

// settle counts what a committed transaction did.
func (w *work) settle() {
	w.metrics.count(&w.counted)
	w.counted = tally{}
}

// abandon forgets a transaction that was not committed.
func (w *work) abandon() {
	w.blocks = nil
	w.ledger = ledger{}
	w.counted = tally{}
}
