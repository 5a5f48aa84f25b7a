package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// run is what a bounded sink works off: the records of a partition up to an
// offset. It is recorded in the group with every commit, so that whoever goes
// on with the run goes on to the same end.
type run struct {
	ID    string `json:"id"`
	Begin int64  `json:"begin"` // where it began, for who wants to know how much it is
	Until int64  `json:"until"` // one past the last record
}

// ends tells whether offset is beyond the run. A sink without one never ends.
func (r *run) ends(offset int64) bool { return r != nil && offset >= r.Until }

// Range is the part [From, Until) of a partition.
type Range struct{ From, Until int64 }

// RunState is how far a group is with a run.
type RunState struct {
	ID string
	// Whole are the run's ranges from where they began.
	Whole map[int32]Range
	// Partitions are how far each is; From moves towards Until.
	Partitions map[int32]Range
	// Open are the partitions with an open intent.
	Open []int32
}

// Ended tells whether all records are worked off.
func (r *RunState) Ended() bool {
	for _, partition := range r.Partitions {
		if partition.From < partition.Until {
			return false
		}
	}
	return len(r.Open) == 0
}

// CommitRun records a new run for the group, which must have no members: where
// it begins and ends in each partition. id tells it apart from every other run
// over the same records.
func CommitRun(ctx context.Context, client *kgo.Client, group, topic, id string, partitions map[int32]Range) error {
	offsets := make(kadm.Offsets)
	for partition, bounds := range partitions {
		text, err := metadata{Run: &run{ID: id, Begin: min(bounds.From, bounds.Until), Until: bounds.Until}}.encode()
		if err != nil {
			return err
		}
		offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: min(bounds.From, bounds.Until), LeaderEpoch: -1, Metadata: text})
	}
	if err := kadm.NewClient(client).CommitAllOffsets(ctx, group, offsets); err != nil {
		return fmt.Errorf("record the run %s for group %s: %w", id, group, err)
	}
	return nil
}

// ReadRun reads how far the group is. A group without a run gives nil.
func ReadRun(ctx context.Context, client *kgo.Client, group, topic string) (*RunState, error) {
	committed, err := kadm.NewClient(client).FetchOffsets(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("fetch the committed offsets of group %s: %w", group, err)
	}
	var state *RunState
	for partition, response := range committed[topic] {
		if response.Err != nil {
			return nil, fmt.Errorf("fetch the committed offset of group %s in %s/%d: %w", group, topic, partition, response.Err)
		}
		if response.At < 0 {
			continue
		}
		m, err := decodeMetadata(response.At, response.Metadata)
		if err != nil {
			return nil, fmt.Errorf("group %s in %s/%d: %w", group, topic, partition, err)
		}
		if m.Run == nil {
			continue
		}
		if state == nil {
			state = &RunState{ID: m.Run.ID, Partitions: make(map[int32]Range), Whole: make(map[int32]Range)}
		}
		if state.ID != m.Run.ID {
			return nil, fmt.Errorf("group %s has the runs %s and %s at once", group, state.ID, m.Run.ID)
		}
		state.Whole[partition] = Range{From: m.Run.Begin, Until: m.Run.Until}
		state.Partitions[partition] = Range{From: response.At, Until: m.Run.Until}
		if m.Intent != nil {
			state.Open = append(state.Open, partition)
		}
	}
	return state, nil
}

// errNoRun is a bounded sink without a recorded end, or one with an end that is
// to have none.
var errNoRun = errors.New("the group's run and the sink do not fit")

func (s *Service) examineRun(r *run) error {
	if s.options.Bounded != (r != nil) {
		return fmt.Errorf("%w: group %s", errNoRun, s.options.Group)
	}
	return nil
}

// endInterval is how often a bounded sink looks whether all is done. Other
// instances may have the last partitions, so the group is asked.
const endInterval = 300 * time.Millisecond

// awaitEnd returns when the run has ended, or with ctx.
func (s *Service) awaitEnd(ctx context.Context) {
	ticker := time.NewTicker(endInterval)
	defer ticker.Stop()
	for {
		state, err := ReadRun(ctx, s.client, s.options.Group, s.topic)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.report(s.kafka, err)
		case state == nil:
			s.fail(fmt.Errorf("%w: group %s has none", errNoRun, s.options.Group))
			return
		case state.Ended():
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
