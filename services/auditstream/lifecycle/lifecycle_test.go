package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/services/auditstream/lifecycle"
)

func waits(name string, after time.Duration, err error) lifecycle.Task {
	return lifecycle.Task{Name: name, Run: func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(after)
		return err
	}}
}

func TestStoppedFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Hour, cancel)
		begun := time.Now()
		err := lifecycle.Run(ctx, 10*time.Second,
			waits("a", 3*time.Second, nil),
			waits("b", 5*time.Second, fmt.Errorf("wait: %w", context.Canceled)))
		require.NoError(t, err)
		require.Equal(t, time.Hour+5*time.Second, time.Since(begun))
	})
}

func TestLastErrorIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := lifecycle.Run(ctx, time.Minute, waits("sink", time.Second, errors.New("last insert failed")), waits("b", 0, nil))
		require.EqualError(t, err, "sink: last insert failed")
	})
}

func TestOneEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, end := range []error{nil, errors.New("broken")} {
			err := lifecycle.Run(t.Context(), time.Minute, waits("a", time.Second, nil),
				lifecycle.Task{Name: "b", Run: func(context.Context) error { return end }})
			if end == nil {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, "b: broken")
			}
		}
	})
}

func TestCancelledForAnotherReasonIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := lifecycle.Run(t.Context(), time.Minute,
			lifecycle.Task{Name: "a", Run: func(context.Context) error { return context.Canceled }})
		require.ErrorIs(t, err, context.Canceled)
	})
}

// A stage may be of several tasks, which have its name.
func TestTasksOfOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := lifecycle.Run(ctx, 10*time.Second, waits("sink", time.Second, errors.New("last insert failed")), waits("sink", time.Hour, nil))
		require.EqualError(t, err, "sink: last insert failed\nsink: did not finish in time (10s)")
		err = lifecycle.Run(ctx, 10*time.Second, waits("sink", time.Hour, nil), waits("sink", time.Hour, nil), waits("b", 0, nil))
		require.EqualError(t, err, "sink: did not finish in time (10s)")
		time.Sleep(2 * time.Hour) // the late ones end
	})
}

func TestBoundedFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begun := time.Now()
		err := lifecycle.Run(ctx, 10*time.Second, waits("slow", time.Hour, nil), waits("b", time.Second, errors.New("broken")))
		require.ErrorIs(t, err, lifecycle.ErrNotFinished)
		require.ErrorContains(t, err, "b: broken")
		require.ErrorContains(t, err, "slow: did not finish in time (10s)")
		require.Equal(t, 10*time.Second, time.Since(begun))
		time.Sleep(2 * time.Hour) // the late one ends
	})
}
