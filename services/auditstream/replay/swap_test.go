package replay_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/services/auditstream/replay"
	"github.com/auditstream/auditstream/services/sink"
)

// load keeps producing lines until stop, which returns how many objects it made.
func (w *world) load() (stop func() int) {
	ended, asked := make(chan int), make(chan struct{})
	go func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for number := 0; ; number++ {
			select {
			case <-ticker.C:
				w.lines("one", fmt.Sprint("load-", number), 1, 15)
			case <-asked:
				ended <- number
				return
			}
		}
	}()
	made := sync.OnceValue(func() int {
		close(asked)
		return <-ended
	})
	w.t.Cleanup(func() { made() })
	return made
}

// settledWorld is one whose enricher and sink run until stop, and have brought
// so many lines of an object into the table.
func settledWorld(t *testing.T, lines int) (w *world, stop func()) {
	t.Helper()
	w = newWorld(t)
	w.lines("one", "a", 1, lines)
	stop = w.start(config.CommandEnricher, config.CommandSink)
	w.settled()
	return w, stop
}

func (w *world) swapOptions() replay.Options {
	opts := w.options(replay.FromRaw)
	opts.Into, opts.Swap = "fresh", true
	return opts
}

// abortedAt are those of a swap whose hold is lifted from outside at a step.
func (w *world) abortedAt(step replay.SwapStep) replay.Options {
	opts := w.swapOptions()
	opts.SwapHook = func(at replay.SwapStep) error {
		if at == step {
			_, err := replay.Abort(w.t.Context(), opts)
			require.NoError(w.t, err)
		}
		return nil
	}
	return opts
}

// Rows flow all the time, and the swap dies at each of its steps: no row is
// lost, and people see each once.
func TestSwapUnderLoad(t *testing.T) {
	for _, step := range []replay.SwapStep{
		"", replay.SwapCopied, replay.SwapHeld, replay.SwapAcknowledged, replay.SwapProven, replay.SwapReady, replay.SwapExchanged,
	} {
		t.Run("dies "+string(step), func(t *testing.T) {
			w, _ := settledWorld(t, 400)
			table := w.cfg.ClickHouse.Table
			// A row that no topic has any more: only copying brings it along.
			lost := w.object("two", "lost") + "-000000000001"
			w.exec("INSERT INTO " + table + " (workspaceID, sourceID, receivedAt, id) VALUES ('acme', 'two', 1700000000, '" + lost + "')")
			w.want[lost] = true

			stop := w.load()
			opts := w.swapOptions()
			if step != "" {
				died := opts
				fired := false
				died.SwapHook = func(at replay.SwapStep) error {
					if at != step {
						return nil
					}
					fired = true
					return errors.New("died")
				}
				require.ErrorContains(t, w.fails(died), "died")
				require.True(t, fired)
			}
			summary := w.replay(opts)
			require.True(t, summary.Swapped)
			require.True(t, w.replay(opts).Over)
			objects := stop()
			require.Positive(t, objects)
			w.settled()
			w.wantView()
			require.Equal(t, uint64(1), w.count("SELECT count() FROM "+table+" WHERE id = '"+lost+"'"))
			require.GreaterOrEqual(t, w.count("SELECT uniqExact(id) FROM "+table+" WHERE srcCity = 'Berlin'"), uint64(360))
			require.Equal(t, uint64(360), w.count("SELECT uniqExact(id) FROM fresh WHERE srcCity = '' AND startsWith(id, '"+w.object("one", "a")+"')"), "the old rows")
			t.Logf("%d objects came meanwhile; %s; %d rows are twice", objects, summary,
				w.count("SELECT toUInt64(count() - uniqExact(id)) FROM "+table))
		})
	}
}

// A swap that can't be finished is given up, and the pipeline goes on.
func TestSwapIsGivenUp(t *testing.T) {
	w, _ := settledWorld(t, 200)
	opts := w.swapOptions()
	ctx, cancel := context.WithCancel(t.Context())
	opts.SwapHook = func(at replay.SwapStep) error {
		if at == replay.SwapAcknowledged {
			cancel()
		}
		return nil
	}
	_, err := replay.Run(ctx, opts)
	require.ErrorIs(t, err, context.Canceled)
	w.lines("one", "b", 1, 100)
	w.settled()

	// One that died stays held, until it is aborted.
	opts.SwapHook = func(at replay.SwapStep) error {
		if at == replay.SwapAcknowledged {
			return errors.New("died")
		}
		return nil
	}
	require.ErrorContains(t, w.fails(opts), "died")
	other := w.swapOptions()
	other.Name, other.Into = "other", "other"
	require.ErrorContains(t, w.fails(other), "is held for another swap")
	hold, err := replay.Abort(t.Context(), opts)
	require.NoError(t, err)
	require.Contains(t, hold, "test/")
	hold, err = replay.Abort(t.Context(), opts)
	require.NoError(t, err)
	require.Empty(t, hold)
	w.lines("one", "c", 1, 100)
	w.settled()
	w.wantView()

	// And then it can be done after all; what it replaced is not used again.
	opts.SwapHook = nil
	w.replay(opts)
	w.wantView()
	again := opts
	again.Again = true
	require.ErrorContains(t, w.fails(again), "an earlier swap has replaced")
}

// Without sinks there is nobody to wait for, but for an intent that is open.
func TestSwapWithoutSinks(t *testing.T) {
	w, stop := settledWorld(t, 200)
	stop()
	w.lines("two", "b", 1, 50)
	w.replay(w.swapOptions())
	w.start(config.CommandEnricher, config.CommandSink)
	w.settled()
	w.wantView()
}

// A hold that is lifted from outside while the sinks are waited for ends the swap.
func TestSwapEndsWithItsHold(t *testing.T) {
	w, _ := settledWorld(t, 100)
	require.ErrorContains(t, w.fails(w.abortedAt(replay.SwapHeld)), "is no longer this process's")
	w.lines("one", "b", 1, 100)
	w.settled()
	w.wantView()
}

// What is lifted in the last moment can't stop the exchange any more, and is told.
func TestSwapTellsOfAHoldLiftedTooLate(t *testing.T) {
	w, _ := settledWorld(t, 100)
	require.ErrorContains(t, w.fails(w.abortedAt(replay.SwapReady)), "lifted at the moment of the exchange")
}

// Another replay that writes to the live table finishes what it has intended
// before the tables are exchanged, holds on meanwhile, and goes on afterwards.
func TestSwapWaitsForAnotherReplay(t *testing.T) {
	w, stop := settledWorld(t, 2000)
	stop()

	other := w.options(replay.FromRaw)
	other.Name = "tests" // the swap's is "test"
	intended, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	other.Hook = func(_ int32, step sink.Step) error {
		if step == sink.StepIntended {
			once.Do(func() { close(intended) })
			<-release
		}
		return nil
	}
	ended := make(chan error, 1)
	go func() {
		_, err := replay.Run(t.Context(), other)
		ended <- err
	}()
	<-intended

	opts := w.swapOptions()
	released := false
	opts.SwapHook = func(at replay.SwapStep) error {
		switch at {
		case replay.SwapHeld:
			time.AfterFunc(2*time.Second, func() { close(release) })
		case replay.SwapAcknowledged:
			select {
			case <-release:
				released = true
			default:
			}
		}
		return nil
	}
	require.True(t, w.replay(opts).Swapped)
	require.True(t, released, "the other replay's insert was under way")
	require.NoError(t, <-ended)
	w.wantView()
}
