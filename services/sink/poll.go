package sink

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/pkg/failpoint"
	"github.com/auditstream/auditstream/pkg/kafka"
)

// errorPause spaces polls that bring nothing but errors.
const errorPause = 500 * time.Millisecond

const (
	smallestFetch         = 64 << 10
	largestFetch          = 32 << 20
	largestPartitionFetch = 4 << 20
)

func (s *Service) clientOptions(ctx context.Context) []kgo.Opt {
	options := append([]kgo.Opt(nil), s.options.Client...)
	// What a fetch brings is in memory before it can be held back, and its size
	// is that of compressed records. A record that is larger still comes, alone.
	fetch := int32(min(max(int64(s.options.Config.Memory)/16, smallestFetch), largestFetch)) //nolint:gosec // bounded
	return append(options,
		kgo.FetchMaxBytes(fetch),
		kgo.FetchMaxPartitionBytes(min(fetch, largestPartitionFetch)),
		kgo.WithContext(ctx),
		kgo.WithHooks(clientHook{s}),
		kgo.ConsumerGroup(s.options.Group),
		kgo.ConsumeTopics(s.topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// The end of a transaction takes an offset too, and is committed like one.
		kgo.KeepControlRecords(),
		kgo.ConsumeStartOffset(kgo.NoResetOffset()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.DisableAutoCommit(),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		// Records are handed to their workers before a rebalance may take a
		// partition away, so none reaches the worker of another assignment.
		kgo.BlockRebalanceOnPoll(),
		kgo.OnOffsetsFetched(s.onFetched),
		kgo.AdjustFetchOffsetsFn(s.adjust),
		kgo.OnPartitionsAssigned(s.onAssigned),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
			s.takeAway(lost[s.topic], revokeGrace)
			failpoint.Here("group rejoin")
		}),
		kgo.OnPartitionsLost(s.onLost),
	)
}

// clientHook is told of the client before its callbacks may run.
type clientHook struct{ s *Service }

// OnNewClient runs before NewClient returns.
func (h clientHook) OnNewClient(client *kgo.Client) {
	h.s.client = client
	h.s.committer = groupCommitter{client, h.s.topic}
	cfg := h.s.options.Config
	for _, shard := range h.s.shards {
		// A batch under way, one open, and a fetch in between.
		shard.flow.Store(newFlow(client, h.s.topic, int64(cfg.Memory)/int64(len(h.s.shards)), 3*int64(cfg.BatchSize)))
	}
}

// OnGroupManageError tells of trouble with the group; the client joins again by
// itself.
func (h clientHook) OnGroupManageError(err error) {
	h.s.report(h.s.kafka, fmt.Errorf("group %s: %w", h.s.options.Group, err))
}

// poll hands fetched records to their workers until ctx is done.
func (s *Service) poll(ctx context.Context) error {
	for ctx.Err() == nil {
		fetches := s.client.PollFetches(ctx)
		arrived := s.now()
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if w := s.workerOf(p.Partition); w != nil {
				w.queue.push(p.Records, arrived)
			}
		})
		pause, err := s.fetchErrors(ctx, fetches)
		s.client.AllowRebalance()
		if err != nil {
			return err
		}
		if pause {
			delay.For(ctx, errorPause)
		}
	}
	return nil
}

func (s *Service) fetchErrors(ctx context.Context, fetches kgo.Fetches) (pause bool, ended error) {
	fetches.EachError(func(topic string, partition int32, err error) {
		var lost *kgo.ErrDataLoss
		var group *kgo.ErrGroupSession
		switch {
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		case errors.Is(err, kgo.ErrClientClosed):
			ended = err
		case errors.As(err, &group): // told to the hook
		case errors.As(err, &lost):
			s.truncated(lost)
		case errors.Is(err, kerr.OffsetOutOfRange):
			s.outOfRange(ctx, partition)
		default:
			pause = true
			s.report(s.kafka, fmt.Errorf("fetch %s/%d: %w", topic, partition, err))
		}
	})
	return pause, ended
}

// truncated stops a partition whose log was cut below what was read of it:
// other records may take the offsets that batches and intents are made of. Where
// gaps are accepted the process ends, and its next assignment goes on from what
// the broker has.
func (s *Service) truncated(lost *kgo.ErrDataLoss) {
	w := s.workerOf(lost.Partition)
	if w == nil {
		return
	}
	gap := &GapError{Topic: s.topic, Partition: lost.Partition, From: lost.ResetTo, To: lost.ConsumedTo,
		Reason: "the broker has lost records that were read: its log was cut, and other records may come in their place"}
	s.client.PauseFetchPartitions(map[string][]int32{s.topic: {lost.Partition}})
	if s.options.AcceptGap {
		s.fail(gap)
		return
	}
	// The worker first finishes what was read before.
	w.queue.close(gap)
}

// outOfRange decides on a partition whose next records went away while it was
// being read: retention was faster, or the topic was made anew.
func (s *Service) outOfRange(ctx context.Context, partition int32) {
	w := s.workerOf(partition)
	if w == nil {
		return
	}
	only := map[string][]int32{s.topic: {partition}}
	start, err := s.startPolicy().DecideAgain(ctx, s.client, s.options.Group, s.topic, partition, w.queue.nextOffset())
	if errors.Is(err, kafka.ErrThrownOut) {
		s.endSession(err)
		return
	}
	if err != nil {
		s.report(s.kafka, err) // it is fetched again, and comes back here
		return
	}
	for _, gap := range start.Gaps {
		missing := s.gapError(gap)
		if !gap.Accepted {
			// The worker first finishes what was read before.
			w.queue.close(missing)
			s.client.PauseFetchPartitions(only)
			return
		}
		s.acceptGap(missing, int(gap.Size()))
	}
	if to, found := start.From[s.topic][partition]; found {
		s.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{s.topic: {partition: {Epoch: -1, Offset: to}}})
	}
}

// watchLag reads the group's lag from the broker, so that it is true also for
// partitions that stand still.
func (s *Service) watchLag(ctx context.Context) {
	ticker := time.NewTicker(lagInterval)
	defer ticker.Stop()
	for {
		lagCtx, cancel := context.WithTimeout(ctx, lagTimeout)
		lags, err := kafka.ReadLag(lagCtx, s.client, s.options.Group, s.topic)
		cancel()
		if ctx.Err() != nil {
			return
		}
		s.report(s.kafka, err)
		own := s.workerNumbers()
		s.metrics.lag.Reset()
		for _, lag := range lags {
			if own[lag.Partition] {
				number := strconv.Itoa(int(lag.Partition))
				s.metrics.lag.WithLabelValues(number, "last-stable-offset").Set(float64(lag.Stable))
				s.metrics.lag.WithLabelValues(number, "high-watermark").Set(float64(lag.HighWatermark))
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
