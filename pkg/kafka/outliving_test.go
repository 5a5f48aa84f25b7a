package kafka

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOutlivingEndsInTime(t *testing.T) {
	for name, test := range map[string]struct {
		cancelAfter, want time.Duration
	}{
		"not cancelled":           {0, 30 * time.Second},
		"cancelled at once":       {time.Nanosecond, 10*time.Second + time.Nanosecond},
		"cancelled in the middle": {12 * time.Second, 22 * time.Second},
		"cancelled near the end":  {25 * time.Second, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, stop := context.WithCancel(t.Context())
				defer stop()
				begun := time.Now()
				if test.cancelAfter > 0 {
					time.AfterFunc(test.cancelAfter, stop)
				}
				longer, cancel := outliving(parent, 30*time.Second, 10*time.Second)
				defer cancel()
				<-longer.Done()
				require.Equal(t, test.want, time.Since(begun))
			})
		})
	}
}
