package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/delay"
)

const (
	pingInterval = 3 * time.Second
	pingTimeout  = 10 * time.Second
)

// health turns what happens to a session into the state of two components:
// the brokers, and the partitions' offsets.
type health struct {
	report             Health
	brokers, positions string

	mu      sync.Mutex
	group   error
	ping    error
	pinged  bool
	stopped map[topicPartition]Gap
}

type topicPartition struct {
	topic     string
	partition int32
}

func newHealth(stage string, report Health) *health {
	h := &health{
		report:    report,
		brokers:   stage + " kafka",
		positions: stage + " offsets",
		stopped:   make(map[topicPartition]Gap),
	}
	if report != nil {
		report.Expect(h.brokers)
	}
	return h
}

func (h *health) tell() {
	if h.report == nil {
		return
	}
	if err := errors.Join(h.ping, h.group); err != nil || h.pinged {
		h.report.Report(h.brokers, err)
	}
}

func (h *health) setPing(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ping, h.pinged = err, true
	h.tell()
}

// setGroup is how work goes in the group: nil after whatever succeeds.
func (h *health) setGroup(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil && h.group == nil {
		return
	}
	h.group = err
	h.tell()
}

// stop and assigned keep the set of partitions that stand still.
func (h *health) stop(gap Gap) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped[topicPartition{gap.Topic, gap.Partition}] = gap
	h.tellStopped()
}

func (h *health) clear(partitions map[topicPartition]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.stopped) == 0 {
		return
	}
	for partition := range partitions {
		delete(h.stopped, partition)
	}
	h.tellStopped()
}

func (h *health) stoppedPartitions() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.stopped)
}

func (h *health) tellStopped() {
	if h.report == nil {
		return
	}
	problems := make([]error, 0, len(h.stopped))
	for _, gap := range h.stopped {
		problems = append(problems, gap)
	}
	h.report.Report(h.positions, errors.Join(problems...))
}

// watch asks for a sign of life of the brokers, and for the topics, until ctx is
// done. Without it an idle consumer would notice neither that brokers are away
// nor that the topics were never made.
func (h *health) watch(ctx context.Context, client *kgo.Client, topics []string) {
	for ctx.Err() == nil {
		pingCtx, cancel := context.WithTimeout(ctx, pingTimeout)
		err := client.Ping(pingCtx)
		if err != nil {
			err = fmt.Errorf("reach a broker: %w", err)
		} else {
			err = findTopics(pingCtx, client, topics)
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		h.setPing(err)
		delay.For(ctx, pingInterval)
	}
}

func findTopics(ctx context.Context, client *kgo.Client, topics []string) error {
	details, err := kadm.NewClient(client).ListTopics(ctx, topics...)
	if err != nil {
		return fmt.Errorf("list topics %v: %w", topics, err)
	}
	if err := details.Error(); err != nil {
		return fmt.Errorf("find topics %v (`auditstream topics apply` makes them): %w", topics, err)
	}
	return nil
}
