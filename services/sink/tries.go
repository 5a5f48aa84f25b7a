package sink

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/topics"
)

// longestBackoff is how long a worker waits between tries at most, and so how
// soon it notices that what was wrong is mended.
const longestBackoff = 15 * time.Second

// tries spaces the tries of one step, and says how it goes: once well, once
// ill, not at each try.
type tries struct {
	w       *worker
	step    string
	batch   *batch // nil for a commit
	backoff *backoff.ExponentialBackOff
}

func (w *worker) tries(step string, b *batch) *tries {
	return &tries{w: w, step: step, batch: b, backoff: w.service.spacing()}
}

// spacing grows from try to try.
func (s *Service) spacing() *backoff.ExponentialBackOff {
	spacing := backoff.NewExponentialBackOff()
	spacing.InitialInterval = s.options.Config.Backoff
	spacing.MaxInterval = longestBackoff
	return spacing
}

// again takes the error of a try and returns nil when it is time for the next
// one, or the error that ends the worker.
func (t *tries) again(ctx context.Context, err error) error {
	w := t.w
	kind := failedTransient
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errStopped), errors.Is(err, errAbandoned), errors.Is(err, kafka.ErrThrownOut), errors.Is(err, topics.ErrMalformed):
		return err
	case clickhouse.NeedsMending(err):
		kind = failedMending
	}
	w.service.metrics.failures.WithLabelValues(t.step, kind).Inc()
	switch {
	case t.batch == nil:
		w.service.report(w.service.kafka, err)
	case kind == failedMending:
		w.standing = true
		w.service.partitionStopped(w, &BatchError{Topic: w.service.topic, Partition: w.partition,
			From: t.batch.from, To: t.batch.to, Step: t.step, Err: err})
	default:
		w.service.report(w.shard.component, err)
	}
	w.log.Debug("a step failed and is tried again", "step", t.step, "kind", kind, "error", err)
	stopping := w.stopping
	if t.batch == nil && w.leaving.Load() {
		stopping = nil
	} else if w.stopRequested() {
		return errStopped
	}
	timer := time.NewTimer(t.backoff.NextBackOff())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-stopping:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// succeeded says that the step went well.
func (t *tries) succeeded() {
	if t.batch == nil {
		t.w.service.report(t.w.service.kafka, nil)
		return
	}
	t.backoff.Reset()
	t.w.service.report(t.w.shard.component, nil)
	if t.w.standing {
		t.w.standing = false
		t.w.service.partitionGoesOn(t.w)
	}
}
