package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// settle brings the stage's view in line with the assignment. No records are
// in hand and no transaction is open.
func (s *session) settle(ctx context.Context) error {
	s.mu.Lock()
	rebalanced := s.rebalanced
	s.rebalanced = false
	s.mu.Unlock()
	if rebalanced {
		if _, err := s.group.End(ctx, kgo.TryAbort); err != nil {
			return fmt.Errorf("clear the session after a rebalance: %w", err)
		}
	}
	s.forgetGone()
	return s.prepare(ctx)
}

// forgetGone finds what was taken away by what the client still has a position
// for: callbacks may come folded into one.
func (s *session) forgetGone() {
	positions := s.client.CommittedOffsets()
	s.mu.Lock()
	gone := make(map[topicPartition]bool)
	for partition, a := range s.assigned {
		_, held := positions[partition.topic][partition.partition]
		switch {
		case held && !a.seen:
			a.seen = true
			s.assigned[partition] = a
		case !held && a.seen:
			gone[partition] = true
			delete(s.assigned, partition)
		}
	}
	s.mu.Unlock()
	s.dropHanded(func(partition topicPartition) bool { return gone[partition] })
}

func (s *session) dropHanded(which func(topicPartition) bool) {
	revoked := make(map[string][]int32)
	for partition := range s.handed {
		if which(partition) {
			revoked[partition.topic] = append(revoked[partition.topic], partition.partition)
			delete(s.handed, partition)
		}
	}
	if len(revoked) > 0 && s.t.opts.OnRevoked != nil {
		s.t.opts.OnRevoked(revoked)
	}
}

// prepare runs OnAssigned for partitions that have come, then lets their
// records through.
func (s *session) prepare(ctx context.Context) error {
	s.mu.Lock()
	fresh := make(map[topicPartition]assignment)
	positions := make(Positions)
	for partition, a := range s.assigned {
		if !a.prepared {
			fresh[partition] = a
			positions.set(partition.topic, partition.partition, a.position)
		}
	}
	s.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	// A partition that went away and came back between two looks.
	s.dropHanded(func(partition topicPartition) bool { _, again := fresh[partition]; return again })
	if s.t.opts.OnAssigned != nil {
		if err := s.t.opts.OnAssigned(ctx, positions); err != nil {
			return &stageError{fmt.Errorf("prepare the assigned partitions: %w", err)}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	resume := make(map[string][]int32)
	for partition, before := range fresh {
		s.handed[partition] = true
		a, still := s.assigned[partition]
		if !still || a.sequence != before.sequence {
			continue // it came anew meanwhile; its turn is the next settle
		}
		a.prepared = true
		s.assigned[partition] = a
		resume[partition.topic] = append(resume[partition.topic], partition.partition)
	}
	s.client.ResumeFetchPartitions(resume)
	return nil
}

// stageError is a failure of the stage's own, not of the session: the session
// stays and the step is tried again.
type stageError struct{ err error }

func (e *stageError) Error() string { return e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }
