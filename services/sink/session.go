package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/kafka"
)

// session is one membership in the group. It ends with asked, and again says
// that there is to be another: the member turned out to have been thrown out.
func (s *Service) session(asked context.Context) (again bool, err error) {
	ctx, end := context.WithCancelCause(asked)
	defer end(nil)
	s.membership, s.endSession = new(kafka.Membership), end
	// The client outlives asked, to leave in order.
	clientCtx, cancelClient := context.WithCancel(context.WithoutCancel(asked))
	defer cancelClient()
	// The hook has set s.client before any callback could run.
	if _, err = kgo.NewClient(s.clientOptions(clientCtx)...); err != nil {
		return false, fmt.Errorf("sink: make the Kafka client: %w", err)
	}

	var background sync.WaitGroup
	background.Go(func() { s.watchLag(ctx) })
	if s.options.Bounded {
		background.Go(func() {
			s.awaitEnd(ctx)
			end(nil)
		})
	}
	background.Go(func() {
		select {
		case <-s.failed:
			end(nil)
		case <-ctx.Done():
		}
	})
	polled := s.poll(ctx)
	end(nil)
	background.Wait()

	thrownOut := polled == nil && errors.Is(context.Cause(ctx), kafka.ErrThrownOut)
	s.stopWorkers(thrownOut)
	kafka.Leave(s.client, cancelClient, leaveTimeout, s.log)
	if thrownOut && asked.Err() == nil && !s.hasFailed() {
		return true, nil
	}
	return false, s.outcome(polled)
}

// stopWorkers ends the workers, and remembers the intents that they leave open.
// What a member that was thrown out has under way it may not finish, and no
// partition of it stands.
func (s *Service) stopWorkers(thrownOut bool) {
	workers := s.assigned()
	if thrownOut {
		s.takeAway(s.partitions(), 0)
	} else {
		grace := shutdownGrace
		if s.hasFailed() {
			grace = 0
		}
		for _, w := range workers {
			w.leaving.Store(true)
		}
		stopAll(workers, grace)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range workers {
		if w.unconfirmed.Load() {
			s.left[w.partition] = true
		}
	}
}

// outcome is what Run returns.
func (s *Service) outcome(polled error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.hasFailed():
		return fmt.Errorf("sink: %w", s.failure)
	case polled != nil:
		return fmt.Errorf("sink: %w", polled)
	case len(s.left) > 0:
		return fmt.Errorf("sink: %w", &OpenError{slices.Sorted(maps.Keys(s.left))})
	}
	return nil
}

func (s *Service) hasFailed() bool {
	select {
	case <-s.failed:
		return true
	default:
		return false
	}
}

// onAssigned ends the session of a member that is another one by now: the client
// takes the partitions that it is given again for its own all along.
func (s *Service) onAssigned(_ context.Context, client *kgo.Client, _ map[string][]int32) {
	if s.membership.Assigned(client) {
		s.endSession(kafka.ErrThrownOut)
	}
}

// onLost is told by the client that it was thrown out, and can't commit any more.
func (s *Service) onLost(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	s.takeAway(lost[s.topic], 0)
	s.membership.Lost()
}

// partitions are those with a worker, and those that stand still without one.
func (s *Service) partitions() []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	numbers := slices.Collect(maps.Keys(s.workers))
	for number := range s.stopped {
		if s.workers[number] == nil {
			numbers = append(numbers, number)
		}
	}
	return numbers
}
