package cachefolder_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/cachefolder"
)

func TestFillIsOnce(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new")
	var filled atomic.Int64
	fill := func() error {
		filled.Add(1)
		return nil
	}
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			if err := cachefolder.Fill(t.Context(), folder, func() bool { return filled.Load() > 0 }, fill); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	require.EqualValues(t, 1, filled.Load())
}

func TestFillThatFailedIsTriedAgain(t *testing.T) {
	folder := t.TempDir()
	broken := errors.New("no network")
	never := func() bool { return false }
	require.ErrorIs(t, cachefolder.Fill(t.Context(), folder, never, func() error { return broken }), broken)
	require.NoError(t, cachefolder.Fill(t.Context(), folder, never, func() error { return nil }))
}

func TestFillWaitsNoLongerThanItsContext(t *testing.T) {
	folder := t.TempDir()
	other := flock.New(filepath.Join(folder, "lock"))
	require.NoError(t, other.Lock())
	defer func() { require.NoError(t, other.Unlock()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := cachefolder.Fill(ctx, folder, func() bool { return false }, func() error {
		t.Error("filled beside another")
		return nil
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "wait for the lock of "+folder)
}
