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
	s.mu.Lock()
	s.member, s.endSession = "", end
	s.mu.Unlock()
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
	if polled != nil || !errors.Is(context.Cause(ctx), kafka.ErrThrownOut) {
		return false, s.shutdown(polled, cancelClient)
	}
	workers := s.assigned()
	s.takeAway(s.partitions(), 0)
	s.leave(workers, cancelClient)
	if asked.Err() != nil || s.hasFailed() {
		return false, s.outcome(nil)
	}
	return true, nil
}

// shutdown stops the workers, leaves the group and closes the client.
func (s *Service) shutdown(polled error, cancelClient func()) error {
	grace := shutdownGrace
	if s.hasFailed() {
		grace = 0
	}
	workers := s.assigned()
	for _, w := range workers {
		w.leaving.Store(true)
	}
	stopAll(workers, grace)
	s.leave(workers, cancelClient)
	return s.outcome(polled)
}

// leave leaves the group, closes the client, and remembers the intents that the
// workers, which have ended, leave open. It takes no longer than leaveTimeout,
// broker or not: a client that waits to be let into a group that forms waits for
// as long as that takes, unless it is cancelled.
func (s *Service) leave(workers []*worker, cancelClient func()) {
	s.mu.Lock()
	for _, w := range workers {
		if w.unconfirmed.Load() {
			s.left[w.partition] = true
		}
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	s.client.AllowRebalance()
	if err := s.client.LeaveGroupContext(ctx); err != nil {
		s.log.Warn("could not leave the group; its partitions move when the session times out", "error", err)
	}
	cancelClient()
	s.client.CloseAllowingRebalance()
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

// onAssigned runs after every rejoin, before the offsets of new partitions are
// read. It ends the session of a member that is another one by now: the client
// takes the partitions that it is given again for its own all along.
func (s *Service) onAssigned(_ context.Context, client *kgo.Client, _ map[string][]int32) {
	member, _ := client.GroupMetadata()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.member == "" {
		s.member = member
	}
	if s.member != member {
		s.endSession(kafka.ErrThrownOut)
	}
}

// onLost is told by the client that it was thrown out: all that it is assigned
// from now on comes anew.
func (s *Service) onLost(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	s.takeAway(lost[s.topic], 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.member = ""
}

// standing gives the id that partitions are assigned to, or kafka.ErrThrownOut.
func (s *Service) standing() (member string, err error) {
	now, _ := s.client.GroupMetadata() // no rejoin begins while partitions are begun
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.member, kafka.CheckMember(now, s.member)
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
