package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/clickhouse"
)

// settle brings a batch in of which any row may be there already. It returns
// when every id of it is in the table.
//
// Rows that are missing go in under the token of the intent first: if an
// earlier owner's insert of the same attempt arrives late, the server drops it,
// or ours. Only when the server has answered and rows are still missing — it
// remembers the token and has lost the rows — are they inserted under a new
// token, recorded in the intent before. An error is no answer: the same token
// is tried again.
func (w *worker) settle(ctx context.Context, b *batch, in *intent) error {
	s := w.service
	if s.options.Replace {
		return w.replace(ctx, b, in)
	}
	answered := false // the server took or dropped the last insert
	quiet := false    // and since then no other was under way
	acknowledged := 0 // inserts of which the server said that nothing was dropped
	for try := w.tries("settle", b); ; {
		missing, err := w.missing(ctx, b)
		if err != nil {
			if err := try.again(ctx, err); err != nil {
				return err
			}
			continue
		}
		s.metrics.proven.WithLabelValues(provenPresent).Add(float64(len(b.rows) - len(missing)))
		s.metrics.proven.WithLabelValues(provenMissing).Add(float64(len(missing)))
		if err := w.hook(StepLookedUp); err != nil {
			return err
		}
		if len(missing) == 0 {
			try.succeeded()
			return nil
		}
		if w.stopRequested() && !w.leaving.Load() {
			return errStopped
		}
		if answered {
			// An insert of the same attempt that still runs, a zombie's or one of ours
			// that took too long, may have noted the token and not shown its rows.
			// Only when there is none is what is missing now missing for good.
			running, err := w.running(ctx, in)
			switch {
			case running || err != nil:
				if err == nil {
					err = errStillRunning
				}
				if err := try.again(ctx, err); err != nil {
					return err
				}
				continue
			case !quiet:
				quiet = true
				continue // what it has shown before it ended is found by one more look
			case acknowledged > 1:
				// Once may be a replica that was lost; going on would be for ever.
				if err := try.again(ctx, clickhouse.ErrRowsHidden); err != nil {
					return err
				}
				continue
			}
		}
		send := &batch{from: b.from, to: b.to, rows: missing}
		if answered {
			w.log.Warn("the server knows the token but not the rows; inserting them under the next one",
				"from", b.from, "to", b.to, "rows", len(missing), "attempt", in.Attempt+1)
			in.Attempt++
			if err := w.commit(ctx, b.from, in); err != nil {
				return err
			}
			if err := w.hook(StepReattempt); err != nil {
				return err
			}
			s.metrics.reattempts.Inc()
		} else if w.shard.table.HasViews() {
			// A view drops a repeated block by the same token, and so must get all
			// of it: the table may have its part while the view has not.
			send.rows = b.rows
		}
		inserted, err := w.send(ctx, send, in)
		if err != nil {
			answered = false
			if err := try.again(ctx, err); err != nil {
				return err
			}
			continue
		}
		try.succeeded()
		s.metrics.duplicates.Add(float64(inserted.Duplicates))
		if inserted.Proven {
			acknowledged++
		}
		answered, quiet = true, false
	}
}

// errStillRunning is an earlier insert that has to end before more is known.
var errStillRunning = errors.New("an earlier insert of the same rows is still under way on the server")

func (w *worker) running(ctx context.Context, in *intent) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, w.service.options.Config.InsertTimeout)
	defer cancel()
	return w.shard.table.Running(ctx, in.token(w.service.topic, w.partition, w.run))
}

// missing are the batch's rows that are not in the table. A row past its time
// to live does not count: the table removes it at any moment, and it would be
// inserted for ever.
func (w *worker) missing(ctx context.Context, b *batch) ([]*kgo.Record, error) {
	keys, expiries, err := w.shard.table.Keys(b.rows)
	if err != nil {
		return nil, err
	}
	lookCtx, cancel := context.WithTimeout(ctx, w.service.options.Config.InsertTimeout)
	defer cancel()
	present, err := w.shard.table.Present(lookCtx, keys)
	if err != nil {
		return nil, fmt.Errorf("rows of %s [%d,%d): %w", w.subject(), b.from, b.to, err)
	}
	now := w.service.now()
	var missing []*kgo.Record
	for i, record := range b.rows {
		if !present[i] && (expiries[i].IsZero() || now.Before(expiries[i])) {
			missing = append(missing, record)
		}
	}
	return missing, nil
}
