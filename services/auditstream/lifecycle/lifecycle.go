// Package lifecycle is how the tasks of one process begin and end together:
// when one ends, or the process is told to stop, all are, in a bounded time.
// The commands run the stages, the embedded servers and the admin server on it.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Grace is how long tasks may take to finish what they have begun: a
// transaction, an insert and its commit, the children's own ends.
const Grace = 45 * time.Second

// ErrNotFinished is what Run ends with when tasks outlive their grace.
var ErrNotFinished = errors.New("did not finish in time")

// Task is one thing that runs until its context is done. Several may have one
// name: to people they are one thing.
type Task struct {
	Name string
	Run  func(context.Context) error
}

// Run runs the tasks until ctx is done or one of them ends, whichever comes
// first; then it cancels all and waits for them, at most for grace. It returns
// every error but those that say only that the context was cancelled.
func Run(ctx context.Context, grace time.Duration, tasks ...Task) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var (
		mu      sync.Mutex
		failed  []error
		running = make(map[string]int, len(tasks))
		all     sync.WaitGroup
	)
	for _, task := range tasks {
		running[task.Name]++
	}
	for _, task := range tasks {
		all.Go(func() {
			defer cancel()
			err := task.Run(ctx)
			stopped := ctx.Err() != nil && errors.Is(err, context.Canceled)
			mu.Lock()
			defer mu.Unlock()
			running[task.Name]--
			if err != nil && !stopped {
				failed = append(failed, fmt.Errorf("%s: %w", task.Name, err))
			}
		})
	}

	finished := make(chan struct{})
	go func() {
		defer close(finished)
		all.Wait()
	}()
	<-ctx.Done()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-finished:
	case <-timer.C:
		mu.Lock()
		var late []string
		for name, tasks := range running {
			if tasks > 0 {
				late = append(late, name)
			}
		}
		slices.Sort(late)
		failed = append(failed, fmt.Errorf("%s: %w (%s)", strings.Join(late, ", "), ErrNotFinished, grace))
		mu.Unlock()
	}
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(failed...)
}
