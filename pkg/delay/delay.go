// Package delay lets time pass between two tries, or two looks at something,
// without holding up whoever ends the work meanwhile.
package delay

import (
	"context"
	"time"
)

// For waits for length, or until ctx is done, and tells whether all the time
// went by.
func For(ctx context.Context, length time.Duration) bool {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
