package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// StartPolicy says where a group begins in a partition, and what to do where
// records are known to be missing. A consumer that follows it never jumps over
// records in silence:
//
//   - a committed offset within the log is where to go on;
//   - a new group whose output is empty starts at offset 0, and says so in the
//     group before it produces anything, so that it is never new again;
//   - a partition that came later to a known group starts at offset 0;
//   - everything else is a gap: a log that starts after the position, a log that
//     ends before it (the topic was made anew), a group whose offsets have gone
//     although its output is not empty. The partition stops and names the range,
//     unless AcceptGap.
type StartPolicy struct {
	// OutputTopics are those that only this group writes to. OutputEmpty tells the
	// same of another kind of output. They are looked at only when the group has no
	// offsets at all; without either the output counts as empty.
	OutputTopics []string
	OutputEmpty  func(ctx context.Context) (bool, error)
	// AcceptGap goes on from the earliest record where records are missing.
	AcceptGap bool
}

// Gap is a range of offsets that the group has not read and can't read.
type Gap struct {
	Topic     string
	Partition int32
	From, To  int64 // [From, To); To is below From when the log ends before the position
	Reason    string
	Accepted  bool
}

// Error makes a gap that stops a partition an error.
func (g Gap) Error() string {
	return fmt.Sprintf("%s/%d [%d,%d): %s", g.Topic, g.Partition, g.From, g.To, g.Reason)
}

// Size is how many records are known to be missing.
func (g Gap) Size() int64 { return max(g.To-g.From, 0) }

// Positions are offsets by topic and partition.
type Positions map[string]map[int32]int64

func (p Positions) set(topic string, partition int32, offset int64) {
	if p[topic] == nil {
		p[topic] = make(map[int32]int64)
	}
	p[topic][partition] = offset
}

// Start is the decision for the partitions of one assignment.
type Start struct {
	// From is where to begin; a partition that must not be consumed is not in it.
	From Positions
	// Commit are the starting offsets that the group does not have yet. They must
	// be committed before anything is produced from these partitions.
	Commit Positions
	// Gaps are the ranges that are missing, accepted or not.
	Gaps []Gap
}

// Decide takes the committed offsets of newly assigned partitions, below zero
// for none, and says where to begin in each. An error means that the broker
// could not be asked; the decision is then still open.
func (p StartPolicy) Decide(ctx context.Context, client *kgo.Client, group string, committed Positions) (Start, error) {
	result := Start{From: make(Positions), Commit: make(Positions)}
	if len(committed) == 0 {
		return result, nil
	}
	admin := kadm.NewClient(client)
	names := slices.Sorted(maps.Keys(committed))
	starts, err := admin.ListStartOffsets(ctx, names...)
	if err != nil {
		return Start{}, fmt.Errorf("list the start offsets of %v: %w", names, err)
	}
	ends, err := admin.ListEndOffsets(ctx, names...)
	if err != nil {
		return Start{}, fmt.Errorf("list the end offsets of %v: %w", names, err)
	}
	known := true // the group's state, looked up only when it matters
	if committed.anyMissing() {
		if known, err = p.groupKnown(ctx, admin, group, names); err != nil {
			return Start{}, err
		}
	}
	for _, topic := range names {
		for _, partition := range slices.Sorted(maps.Keys(committed[topic])) {
			first, hasFirst := starts.Lookup(topic, partition)
			last, hasLast := ends.Lookup(topic, partition)
			if err := errors.Join(first.Err, last.Err); err != nil || !hasFirst || !hasLast {
				return Start{}, fmt.Errorf("list the offsets of %s/%d: %w", topic, partition, err)
			}
			result.decide(topic, partition, committed[topic][partition], first.Offset, last.Offset, known, p.AcceptGap)
		}
	}
	return result, nil
}

// DecideAgain is Decide for a partition in which a member can't go on from
// position. It gives ErrThrownOut where the group has committed an offset beyond
// it: by others, who had the partition while this member did not know it; what
// they have worked off is no gap.
func (p StartPolicy) DecideAgain(ctx context.Context, client *kgo.Client, group, topic string, partition int32, position int64) (Start, error) {
	committed, err := committedOffsets(ctx, kadm.NewClient(client), group)
	if err != nil {
		return Start{}, err
	}
	if offset := committed[topic][partition]; offset > position {
		return Start{}, fmt.Errorf("%w: %s/%d is at %d, not %d", ErrThrownOut, topic, partition, offset, position)
	}
	return p.Decide(ctx, client, group, Positions{topic: {partition: position}})
}

func (p Positions) anyMissing() bool {
	for _, partitions := range p {
		for _, offset := range partitions {
			if offset < 0 {
				return true
			}
		}
	}
	return false
}

// groupKnown tells whether the group may take a partition without offsets from
// its beginning: it has offsets in these topics already, or it is new and has
// written nothing.
//
// The output is asked first. A group commits its starting offsets before it
// writes, so when the output is not empty because another instance of the same
// new group was quicker, its offsets are there to be seen afterwards.
func (p StartPolicy) groupKnown(ctx context.Context, admin *kadm.Client, group string, names []string) (bool, error) {
	empty, err := p.outputEmpty(ctx, admin)
	if err != nil {
		return false, fmt.Errorf("see whether the output of group %s is empty: %w", group, err)
	}
	if empty {
		return true, nil
	}
	offsets, err := committedOffsets(ctx, admin, group)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(names, func(topic string) bool { return len(offsets[topic]) > 0 }), nil
}

func (p StartPolicy) outputEmpty(ctx context.Context, admin *kadm.Client) (bool, error) {
	if p.OutputEmpty != nil {
		if empty, err := p.OutputEmpty(ctx); err != nil || !empty {
			return empty, err
		}
	}
	if len(p.OutputTopics) == 0 {
		return true, nil
	}
	ends, err := admin.ListEndOffsets(ctx, p.OutputTopics...)
	if err != nil {
		return false, fmt.Errorf("list the end offsets of %v: %w", p.OutputTopics, err)
	}
	if err := ends.Error(); err != nil {
		return false, fmt.Errorf("list the end offsets of %v: %w", p.OutputTopics, err)
	}
	empty := true
	ends.Each(func(offset kadm.ListedOffset) { empty = empty && offset.Offset == 0 })
	return empty, nil
}

func (s *Start) decide(topic string, partition int32, committed, first, last int64, known, accept bool) {
	position := committed
	var gap *Gap
	missing := func(to int64, reason string) {
		gap = &Gap{Topic: topic, Partition: partition, From: position, To: to, Reason: reason, Accepted: accept}
	}
	switch {
	case committed < 0 && !known:
		position = 0
		missing(last, "the group has no offsets although its output is not empty")
	case committed < 0:
		position = 0
		if first > 0 {
			missing(first, "the log starts after where the group begins")
		}
	case committed < first:
		missing(first, "the log starts after the group's offset")
	case committed > last:
		missing(last, "the log ends before the group's offset: the topic was made anew, or has lost records")
	}
	if gap != nil {
		s.Gaps = append(s.Gaps, *gap)
		if !accept {
			return
		}
		position = first
	}
	s.From.set(topic, partition, position)
	if position != committed {
		s.Commit.set(topic, partition, position)
	}
}

// committedOffsets asks the group's coordinator, not the client's memory, and
// fails while a transaction that commits some of them is open.
func committedOffsets(ctx context.Context, admin *kadm.Client, group string) (Positions, error) {
	responses, err := admin.FetchOffsets(kadm.RequireStable(ctx), group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return Positions{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("fetch the committed offsets of group %s: %w", group, err)
	}
	result := make(Positions)
	for topic, partitions := range responses {
		for partition, response := range partitions {
			if response.Err != nil {
				return nil, fmt.Errorf("fetch the committed offset of group %s in %s/%d: %w", group, topic, partition, response.Err)
			}
			if response.At >= 0 {
				result.set(topic, partition, response.At)
			}
		}
	}
	return result, nil
}

// CommitStart commits starting offsets as the group member that client is. It
// belongs into AdjustFetchOffsetsFn: the member is in the group and the
// partitions are its own.
func CommitStart(ctx context.Context, client *kgo.Client, offsets Positions) error {
	if len(offsets) == 0 {
		return nil
	}
	request := make(map[string]map[int32]kgo.EpochOffset, len(offsets))
	for topic, partitions := range offsets {
		request[topic] = make(map[int32]kgo.EpochOffset, len(partitions))
		for partition, offset := range partitions {
			request[topic][partition] = kgo.EpochOffset{Epoch: -1, Offset: offset}
		}
	}
	member, _ := client.GroupMetadata()
	ctx = kgo.PreCommitFnContext(ctx, func(request *kmsg.OffsetCommitRequest) error {
		return CheckMember(request.MemberID, member)
	})
	var failed error
	client.CommitOffsetsSync(ctx, request, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			failed = err
			return
		}
		for _, topic := range response.Topics {
			for _, partition := range topic.Partitions {
				if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
					failed = errors.Join(failed, fmt.Errorf("%s/%d: %w", topic.Topic, partition.Partition, err))
				}
			}
		}
	})
	if failed != nil {
		return fmt.Errorf("commit the starting offsets: %w", failed)
	}
	return nil
}

// Committed takes the offsets that AdjustFetchOffsetsFn is given.
func Committed(fetched map[string]map[int32]kgo.Offset) Positions {
	result := make(Positions, len(fetched))
	for topic, partitions := range fetched {
		for partition, offset := range partitions {
			result.set(topic, partition, offset.EpochOffset().Offset)
		}
	}
	return result
}

// Offsets is what AdjustFetchOffsetsFn returns. Partitions that stop are not
// in it, and so are assigned without being consumed. Where the fetched offset
// stands its leader epoch is kept: the client finds truncation by it.
func (s Start) Offsets(fetched map[string]map[int32]kgo.Offset) map[string]map[int32]kgo.Offset {
	result := make(map[string]map[int32]kgo.Offset, len(s.From))
	for topic, partitions := range s.From {
		result[topic] = make(map[int32]kgo.Offset, len(partitions))
		for partition, from := range partitions {
			offset := fetched[topic][partition]
			if offset.EpochOffset().Offset != from {
				offset = kgo.NoResetOffset().At(from)
			}
			result[topic][partition] = offset
		}
	}
	return result
}
