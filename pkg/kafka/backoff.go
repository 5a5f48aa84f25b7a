package kafka

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 10 * time.Second
)

// newBackoff grows from try to try, with jitter so that instances that failed
// together don't come back together.
func newBackoff() *backoff.ExponentialBackOff {
	spacing := backoff.NewExponentialBackOff()
	spacing.InitialInterval, spacing.Multiplier, spacing.MaxInterval = firstBackoff, 2, lastBackoff
	return spacing
}
