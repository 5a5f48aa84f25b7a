package sink

import "context"

// replace makes an insert again whose outcome is not known, of rows that take
// the place of others with the same ids. Which of the two is in the table can't
// be seen, so all of them go in under a new token, recorded in the intent
// before: a row that arrives twice collapses with itself.
func (w *worker) replace(ctx context.Context, b *batch, in *intent) error {
	for try := w.tries("settle", b); ; {
		if w.stopRequested() && !w.leaving.Load() {
			return errStopped
		}
		in.Attempt++
		if err := w.commit(ctx, b.from, in); err != nil {
			return err
		}
		if err := w.hook(StepReattempt); err != nil {
			return err
		}
		w.service.metrics.reattempts.Inc()
		inserted, err := w.send(ctx, b, in)
		if err == nil && inserted.Proven {
			try.succeeded()
			return nil
		}
		if err == nil {
			w.service.metrics.duplicates.Add(float64(inserted.Duplicates))
			continue
		}
		if err := try.again(ctx, err); err != nil {
			return err
		}
	}
}
