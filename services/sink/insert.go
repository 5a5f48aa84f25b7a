package sink

import (
	"context"
	"errors"
	"time"

	"github.com/auditstream/auditstream/pkg/clickhouse"
)

// insert makes the first attempt at a batch. It is the one case that needs no
// looking: the intent is new, so when the server acknowledges the block and did
// not call any part of it a duplicate, every row is in, once.
func (w *worker) insert(ctx context.Context, b *batch, in *intent) error {
	for try := w.tries("insert", b); ; {
		inserted, err := w.send(ctx, b, in)
		if err == nil && inserted.Proven {
			try.succeeded()
			return nil
		}
		if err == nil {
			try.succeeded()
			w.service.metrics.duplicates.Add(float64(inserted.Duplicates))
			w.log.Warn("the server called a first attempt a duplicate; looking which rows are there",
				"from", b.from, "to", b.to, "blocks", inserted.Duplicates)
			return w.settle(ctx, b, in)
		}
		if err := try.again(ctx, err); err != nil {
			return err
		}
		var failed *clickhouse.InsertError
		if !errors.As(err, &failed) || failed.Sent {
			// The rows may be in, or come in later.
			return w.settle(ctx, b, in)
		}
	}
}

// send is one INSERT, bounded in time, with at most Inserts of them at once in a shard. A
// worker that is asked to stop still makes its first attempt: the intent is
// recorded, and finishing it spares the next owner the looking.
func (w *worker) send(ctx context.Context, b *batch, in *intent) (clickhouse.Inserted, error) {
	s := w.service
	select {
	case w.shard.inserts <- struct{}{}:
	case <-ctx.Done():
		return clickhouse.Inserted{}, ctx.Err()
	}
	defer func() { <-w.shard.inserts }()
	ctx, cancel := context.WithTimeout(ctx, s.options.Config.InsertTimeout)
	defer cancel()
	started := time.Now()
	inserted, err := w.shard.table.Insert(ctx, in.token(s.topic, w.partition, w.run), b.rows)
	s.metrics.insertSeconds.WithLabelValues(outcome(inserted, err)).Observe(time.Since(started).Seconds())
	return inserted, err
}

func outcome(inserted clickhouse.Inserted, err error) string {
	var failed *clickhouse.InsertError
	switch {
	case err == nil && inserted.Proven:
		return outcomeProven
	case err == nil:
		return outcomeDuplicate
	case errors.As(err, &failed) && !failed.Sent:
		return outcomeNotSent
	}
	return outcomeUnknown
}
