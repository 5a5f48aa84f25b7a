package sink

import (
	"context"
	"fmt"
	"time"
)

// Why batches close.
const (
	closedByRows     = "rows"
	closedByBytes    = "bytes"
	closedByAge      = "age"
	closedByEnd      = "end"
	closedByRecovery = "recovery"
)

// collect moves what has arrived into the open batch, up to its limits. It
// reports why the batch is due, "" while it isn't.
func (w *worker) collect() (due string, err error) {
	for {
		if len(w.spill) == 0 {
			if w.spill, err = w.queue.take(); err != nil {
				if len(w.gather.records) > 0 {
					return closedByAge, nil // what came before the end is still good
				}
				return "", err
			}
		}
		for len(w.spill) > 0 {
			arrival := &w.spill[0]
			for len(arrival.records) > 0 {
				record := arrival.records[0]
				if w.run.ends(record.Offset) {
					w.gather.to = w.run.Until
					w.spill = nil
					return w.atEnd(), nil
				}
				if due := w.full(costOf(record)); due != "" && !record.Attrs.IsControl() {
					return due, nil
				}
				if err := w.gather.add(record, arrival.at); err != nil {
					if len(w.gather.records) > 0 {
						return closedByAge, nil // what came before it is good; it is next
					}
					return "", err
				}
				arrival.records = arrival.records[1:]
				if w.run.ends(w.gather.to) {
					w.spill = nil
					return w.atEnd(), nil
				}
				if due := w.full(1); due != "" {
					return due, nil
				}
			}
			w.spill = w.spill[1:]
		}
		if w.spill, err = w.queue.take(); err != nil || len(w.spill) == 0 {
			break
		}
	}
	if len(w.gather.records) > 0 && (err != nil || w.service.now().Sub(w.gather.since) >= w.service.options.Config.BatchAge) {
		return closedByAge, nil
	}
	return "", err
}

// atEnd closes what there is at the end of the run.
func (w *worker) atEnd() (due string) {
	if len(w.gather.records) > 0 {
		return closedByEnd
	}
	return ""
}

// full tells whether the batch has no room for that much more. A batch takes
// at least one record, however large.
func (w *worker) full(more int64) string {
	cfg := &w.service.options.Config
	switch {
	case len(w.gather.records) == 0:
		return ""
	case len(w.gather.records) >= cfg.BatchRows:
		return closedByRows
	case w.gather.bytes+more > int64(cfg.BatchSize):
		return closedByBytes
	}
	return ""
}

func (w *worker) closeBatch(why string) (*batch, error) {
	b := w.gather.end(why)
	w.position = b.to
	w.gather.begin(b.to)
	return b, w.hook(StepChosen)
}

// nextBatch waits for a batch to close.
func (w *worker) nextBatch(ctx context.Context) (*batch, error) {
	for {
		if w.run.ends(w.position) {
			return nil, errAtEnd
		}
		if w.stopRequested() {
			return nil, errStopped
		}
		if err := w.mayIntend(ctx); err != nil {
			return nil, err
		}
		held, heldNow := w.shard.hold.get()
		if held != "" {
			continue
		}
		due, err := w.collect()
		if err != nil {
			return nil, err
		}
		if due != "" {
			return w.closeBatch(due)
		}
		if len(w.gather.records) == 0 && w.gather.to > w.position {
			// Nothing but ends of transactions, or records without rows, has come.
			// Standing before them for ever would look like a gap once retention has
			// emptied the partition.
			if err := w.setAside(ctx, &w.gather.batch); err != nil {
				return nil, err
			}
			if err := w.commit(ctx, w.gather.to, nil); err != nil {
				return nil, err
			}
			w.queue.release(w.gather.bytes)
			w.position = w.gather.to
			w.gather.begin(w.position)
			continue
		}
		// Without records only an arrival can make the batch due.
		var aged <-chan time.Time
		stopTimer := func() bool { return true }
		if len(w.gather.records) > 0 {
			timer := time.NewTimer(w.gather.since.Add(w.service.options.Config.BatchAge).Sub(w.service.now()))
			aged, stopTimer = timer.C, timer.Stop
		}
		select {
		case <-w.queue.arrived:
		case <-heldNow:
		case <-aged:
		case <-w.stopping:
		case <-ctx.Done():
			stopTimer()
			return nil, ctx.Err()
		}
		stopTimer()
	}
}

// readyBatch returns the next batch and its intent if one is due by now.
func (w *worker) readyBatch() (*batch, *intent, error) {
	if err := w.hook(StepInserted); err != nil {
		return nil, nil, err
	}
	if w.stopRequested() || w.held() {
		return nil, nil, nil
	}
	due, err := w.collect()
	if err != nil || due == "" {
		// What stands in the way of a further batch must not hold up the commit of
		// the one that is in; nextBatch meets it again.
		return nil, nil, nil //nolint:nilerr // see above
	}
	b, err := w.closeBatch(due)
	if err != nil {
		return nil, nil, err
	}
	return b, w.intend(b), nil
}

// reread collects exactly the range of the open intent and compares it with
// what was intended. Without an intent it returns nil.
func (w *worker) reread(ctx context.Context) (*batch, *intent, error) {
	w.gather.begin(w.position)
	if w.open == nil {
		return nil, nil, nil
	}
	in := w.open
	w.intentAt.Store(in.At)
	if in.Target != w.shard.target() {
		return nil, nil, &TargetError{Topic: w.service.topic, Partition: w.partition, From: in.from, To: in.To,
			Target: in.Target, Own: w.shard.target()}
	}
	w.log.Info("an earlier owner left an intent open", "from", in.from, "to", in.To, "rows", in.Records, "attempt", in.Attempt)
	for w.gather.to < in.To {
		if w.stopRequested() {
			return nil, nil, errStopped
		}
		arrivals, err := w.queue.take()
		if err != nil {
			return nil, nil, fmt.Errorf("read the open intent's range again: %w", err)
		}
		past, err := w.collectUntil(arrivals, in.To)
		if err != nil {
			return nil, nil, err
		}
		if past {
			break
		}
		if len(arrivals) > 0 {
			continue
		}
		select {
		case <-w.queue.arrived:
		case <-w.stopping:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	b := w.gather.end(closedByRecovery)
	w.queue.recovered()
	w.gather.begin(in.To)
	w.position = in.To
	return w.verify(ctx, b, in)
}

// collectUntil adds the records below `to` and keeps the others. past is true
// when one at or after `to` was seen, so that no more of the range can come.
func (w *worker) collectUntil(arrivals []arrival, to int64) (past bool, err error) {
	for i := range arrivals {
		records := arrivals[i].records
		for j, record := range records {
			if record.Offset >= to {
				arrivals[i].records = records[j:]
				w.spill = append(w.spill, arrivals[i:]...)
				return true, nil
			}
			if err := w.gather.add(record, arrivals[i].at); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// verify holds the batch read again against its intent. What differs is a gap:
// records that were to go in can't be read any more.
func (w *worker) verify(ctx context.Context, b *batch, in *intent) (*batch, *intent, error) {
	differs := in.matches(b)
	if differs == nil && !w.shrunk {
		return b, in, nil
	}
	if differs == nil {
		differs = fmt.Errorf("part of it is gone")
	}
	gap := &GapError{Topic: w.service.topic, Partition: w.partition, From: in.from, To: in.To,
		Reason: "the range read again is not the one that an earlier owner was about to insert: " + differs.Error(), Differs: !w.shrunk}
	if !w.service.options.AcceptGap {
		return nil, nil, gap
	}
	w.service.acceptGap(gap, max(in.Records-len(b.records), 0))
	if len(b.records) == 0 {
		if err := w.setAside(ctx, b); err != nil {
			return nil, nil, err
		}
		// Nothing is left of it; the intent ends with the commit of `to`.
		if err := w.commit(ctx, in.To, nil); err != nil {
			return nil, nil, err
		}
		w.queue.release(b.bytes)
		return nil, nil, nil
	}
	// What is left is intended anew, under a token of its own, and settled by
	// looking: the old attempts may have put any of it in.
	b.to = in.To
	renewed := *in
	renewed.Records, renewed.IDs, renewed.Attempt = len(b.records), b.ids, in.Attempt+1
	if err := w.commit(ctx, in.from, &renewed); err != nil {
		return nil, nil, err
	}
	return b, &renewed, nil
}
