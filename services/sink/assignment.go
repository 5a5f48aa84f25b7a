package sink

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditstream/auditstream/pkg/kafka"
)

// startPolicy decides where partitions begin; it is the same in all stages.
func (s *Service) startPolicy() kafka.StartPolicy {
	return kafka.StartPolicy{OutputEmpty: s.empty, AcceptGap: s.options.AcceptGap}
}

// onFetched keeps the metadata of committed offsets as the broker gave them
// (the client asks for stable ones) for adjust, which runs right after it.
func (s *Service) onFetched(_ context.Context, _ *kgo.Client, response *kmsg.OffsetFetchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.fetched)
	for _, group := range response.Groups {
		for _, topic := range group.Topics { // one: this is all the group consumes
			for _, partition := range topic.Partitions {
				if partition.Metadata != nil && partition.Offset >= 0 {
					s.fetched[partition.Partition] = *partition.Metadata
				}
			}
		}
	}
	return nil
}

// adjust runs for every coming of partitions, after their offsets were read
// and before they are consumed. It decides where each begins, and starts its
// worker. A partition that must not be consumed is left out.
func (s *Service) adjust(ctx context.Context, fetched map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	offsets, err := s.assign(ctx, fetched)
	if err == nil {
		return offsets, nil
	}
	s.report(s.kafka, err)
	if ctx.Err() == nil && errors.Is(err, context.Canceled) {
		// The client takes a cancellation for leaving the group.
		return nil, fmt.Errorf("%v", err) //nolint:errorlint // just so
	}
	return nil, err
}

func (s *Service) assign(ctx context.Context, fetched map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	committed := kafka.Committed(fetched)
	member, err := s.membership.ID()
	if err != nil {
		return nil, err
	}
	topicID, ends, err := s.describe(ctx)
	if err != nil {
		return nil, err
	}
	refused := make(map[int32]error)
	open := make(map[int32]*intent)
	shrunk := make(map[int32]bool)
	runs := make(map[int32]*run)
	if s.options.Bounded {
		// A partition that came later has no end, and nothing of it is wanted.
		maps.DeleteFunc(committed[s.topic], func(_ int32, offset int64) bool { return offset < 0 })
	}
	for partition, offset := range committed[s.topic] {
		m, err := decodeMetadata(offset, s.metadataOf(partition))
		if err == nil {
			err = s.examineRun(m.Run)
		}
		runs[partition] = m.Run
		if err == nil {
			err = s.examine(partition, offset, m, topicID, ends)
		}
		var gap *GapError
		switch {
		case err == nil:
			open[partition] = m.Intent
		case errors.As(err, &gap) && s.options.AcceptGap:
			s.acceptGap(gap, 0)
			if m.Topic != "" && m.Topic != topicID {
				committed[s.topic][partition] = 0 // another topic, none of whose records were read
				continue
			}
			open[partition], shrunk[partition] = m.Intent, true
			m.Intent.To = min(m.Intent.To, ends[partition])
		default:
			refused[partition] = err
			delete(committed[s.topic], partition)
		}
	}
	if len(committed[s.topic]) == 0 {
		delete(committed, s.topic)
	}
	start, err := s.startPolicy().Decide(ctx, s.client, s.options.Group, committed)
	if err != nil {
		return nil, err
	}
	for _, gap := range start.Gaps {
		missing := s.gapError(gap)
		if !gap.Accepted {
			refused[gap.Partition] = missing
			continue
		}
		s.acceptGap(missing, int(gap.Size()))
		if in := open[gap.Partition]; in != nil {
			switch {
			case gap.To < gap.From: // the log is another one
				open[gap.Partition] = nil
			case gap.To < in.To:
				shrunk[gap.Partition] = true
			default: // all of the range is gone
				open[gap.Partition] = nil
			}
		}
	}
	for partition, in := range open {
		if in != nil {
			// Committing a start would wipe out the intent.
			delete(start.Commit[s.topic], partition)
		}
	}
	for partition, r := range runs {
		if position, found := start.Commit[s.topic][partition]; found && r != nil {
			// And a start alone would wipe out the run.
			if err := s.commitStart(ctx, member, partition, position, metadata{Topic: topicID, Run: r}); err != nil {
				return nil, err
			}
			delete(start.Commit[s.topic], partition)
		}
	}
	if len(start.Commit[s.topic]) == 0 {
		delete(start.Commit, s.topic)
	}
	if err := kafka.CommitStart(ctx, s.client, start.Commit); err != nil {
		return nil, err
	}
	s.begin(member, start.From[s.topic], committed[s.topic], open, shrunk, runs, topicID, refused)
	return start.Offsets(fetched), nil
}

// commitStart is kafka.CommitStart with metadata.
func (s *Service) commitStart(ctx context.Context, member string, partition int32, position int64, m metadata) error {
	text, err := m.encode()
	if err != nil {
		return err
	}
	if err := s.committer.commit(ctx, member, partition, position, text); err != nil {
		return fmt.Errorf("commit the starting offset of %s/%d: %w", s.topic, partition, err)
	}
	return nil
}

// describe reads the topic's id, "" on brokers without ids, and where its
// partitions end.
func (s *Service) describe(ctx context.Context) (topicID string, ends map[int32]int64, err error) {
	admin := kadm.NewClient(s.client)
	details, err := admin.ListTopics(ctx, s.topic)
	if err == nil {
		err = details.Error()
	}
	if err != nil {
		return "", nil, fmt.Errorf("describe topic %s: %w", s.topic, err)
	}
	if id := details[s.topic].ID; id != (kadm.TopicID{}) {
		topicID = hex.EncodeToString(id[:])
	}
	listed, err := admin.ListEndOffsets(ctx, s.topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return "", nil, fmt.Errorf("list the end offsets of %s: %w", s.topic, err)
	}
	ends = make(map[int32]int64)
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return topicID, ends, nil
}

// examine finds reasons not to go on from a committed offset that the offset
// alone does not show.
func (s *Service) examine(partition int32, offset int64, m metadata, topicID string, ends map[int32]int64) error {
	gap := &GapError{Topic: s.topic, Partition: partition, From: offset, To: ends[partition]}
	switch {
	case m.Topic != "" && topicID != "" && m.Topic != topicID:
		gap.Reason = "the topic was made anew since this offset was committed"
		return gap
	case m.Intent != nil && offset <= ends[partition] && m.Intent.To > ends[partition]:
		gap.From, gap.To = ends[partition], m.Intent.To
		gap.Reason = "the log ends before the end of the open intent"
		return gap
	}
	return nil
}

func (s *Service) gapError(gap kafka.Gap) *GapError {
	return &GapError{Topic: gap.Topic, Partition: gap.Partition, From: gap.From, To: gap.To, Reason: gap.Reason}
}

func (s *Service) acceptGap(gap *GapError, records int) {
	s.metrics.acceptedGaps.Inc()
	s.metrics.acceptedRecords.Add(float64(max(records, 0)))
	s.log.Error("records are missing; going on without them as configured",
		"partition", gap.Partition, "from", gap.From, "to", gap.To, "reason", gap.Reason)
}

// begin starts a worker for each partition and marks those that stand still.
func (s *Service) begin(member string, from, committed map[int32]int64, open map[int32]*intent, shrunk map[int32]bool, runs map[int32]*run, topicID string, refused map[int32]error) {
	for partition, position := range from {
		// It can't have a worker still: what takes a partition away waits for it.
		s.takeAway([]int32{partition}, 0)
		w := &worker{
			service: s, partition: partition, member: member, topicID: topicID, run: runs[partition],
			position: position, open: open[partition], shrunk: shrunk[partition],
			log:      s.log.With("topic", s.topic, "partition", partition),
			gather:   newGatherer(s.shardOf(partition).table, s.expander(), s.passesOver()),
			shard:    s.shardOf(partition),
			stopping: make(chan struct{}), done: make(chan struct{}),
		}
		if w.open != nil {
			w.open.from = committed[partition]
			w.position = w.open.from
		}
		w.committed = w.position
		w.stopOnce = sync.OnceFunc(func() { close(w.stopping) })
		w.ctx, w.cancel = context.WithCancel(context.Background())
		w.queue = w.shard.flow.Load().open(partition, position, w.open != nil)
		s.mu.Lock()
		s.workers[partition] = w
		delete(s.left, partition)
		s.mu.Unlock()
		go w.work() // its waiter is stop, which takeAway and shutdown call
	}
	for partition, err := range refused {
		s.standForGood(partition, err)
	}
	s.mu.Lock()
	s.metrics.assigned.Set(float64(len(s.workers)))
	s.mu.Unlock()
}

// takeAway stops the partitions' workers and returns when they have ended:
// from then on nothing of their assignment can commit.
func (s *Service) takeAway(partitions []int32, grace time.Duration) {
	var workers []*worker
	s.mu.Lock()
	for _, partition := range partitions {
		if w := s.workers[partition]; w != nil {
			workers = append(workers, w)
			delete(s.workers, partition)
		}
	}
	s.metrics.assigned.Set(float64(len(s.workers)))
	s.mu.Unlock()
	stopAll(workers, grace)
	for _, w := range workers {
		w.queue.forget()
	}
	// Only now: a worker may report while it ends.
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, partition := range partitions {
		delete(s.stopped, partition)
		s.options.Health.Forget(s.component(partition))
	}
	s.metrics.stopped.Set(float64(len(s.stopped)))
}

func (s *Service) component(partition int32) string {
	return fmt.Sprintf("sink %s/%d", s.topic, partition)
}

// stand marks a partition that stands still until someone acts.
func (s *Service) stand(partition int32, err error) {
	s.mu.Lock()
	already := s.stopped[partition]
	s.stopped[partition] = true
	s.metrics.stopped.Set(float64(len(s.stopped)))
	s.mu.Unlock()
	if !already {
		s.log.Error("the partition stands still", "partition", partition, "error", err)
	}
	s.options.Health.Report(s.component(partition), err)
}

// standForGood is stand where nothing goes on by itself. A bounded sink can
// never come to its end then.
func (s *Service) standForGood(partition int32, err error) {
	s.stand(partition, err)
	if s.options.Bounded {
		s.fail(fmt.Errorf("partition %s/%d: %w", s.topic, partition, err))
	}
}

func (s *Service) partitionStopped(w *worker, err error) { s.stand(w.partition, err) }

func (s *Service) partitionGoesOn(w *worker) {
	s.mu.Lock()
	delete(s.stopped, w.partition)
	s.metrics.stopped.Set(float64(len(s.stopped)))
	s.mu.Unlock()
	s.options.Health.Report(s.component(w.partition), nil)
}

// workerEnded is called by a worker's goroutine at its end.
func (s *Service) workerEnded(w *worker, err error) {
	switch {
	case errors.Is(err, errAbandoned):
		s.fail(err)
	case errors.Is(err, errStopped), errors.Is(err, errAtEnd):
	case errors.Is(err, kafka.ErrThrownOut): // the callbacks that follow say what becomes of the partition
	default:
		s.standForGood(w.partition, err)
	}
}

func (s *Service) metadataOf(partition int32) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetched[partition]
}

func (s *Service) workerOf(partition int32) *worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.workers[partition]
}

func (s *Service) workerNumbers() map[int32]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	numbers := make(map[int32]bool, len(s.workers))
	for number := range s.workers {
		numbers[number] = true
	}
	return numbers
}

// assigned are the workers, by partition.
func (s *Service) assigned() []*worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	workers := make([]*worker, 0, len(s.workers))
	for _, w := range s.workers {
		workers = append(workers, w)
	}
	slices.SortFunc(workers, func(a, b *worker) int { return int(a.partition) - int(b.partition) })
	return workers
}
