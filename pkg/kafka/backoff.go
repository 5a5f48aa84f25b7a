package kafka

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/auditstream/auditstream/pkg/delay"
)

const (
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 10 * time.Second
)

// backoff grows from try to try, with jitter so that instances that failed
// together don't come back together.
type backoff struct{ next time.Duration }

func newBackoff() backoff { return backoff{next: firstBackoff} }

func (b *backoff) reset() { b.next = firstBackoff }

func (b *backoff) wait(ctx context.Context) {
	pause := b.next/2 + rand.N(b.next) //nolint:gosec // not a secret
	b.next = min(2*b.next, lastBackoff)
	delay.For(ctx, pause)
}
