package trace

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/kafka"
)

// clockMargin is how far the clocks of S3, of the stages and of brokers may be
// apart without a record escaping a search by time.
const clockMargin = 5 * time.Minute

// span is the time in which a record was produced; a zero end is open.
type span struct{ since, until time.Time }

func (s span) widened() span {
	if !s.since.IsZero() {
		s.since = s.since.Add(-clockMargin)
	}
	if !s.until.IsZero() {
		s.until = s.until.Add(clockMargin)
	}
	return s
}

// searched says what a search can't have seen.
type searched struct {
	missing bool // there is no such topic
	cut     bool // the log begins within the span: what was before it is no longer there
}

// search reads the records of a topic that were produced within the span, until
// take returns stop. With a key it begins with the partition that the key belongs
// to; others are read too, when take has not had enough, since a topic may have
// had fewer partitions when the record was produced.
func (t *Tracer) search(ctx context.Context, topic string, key []byte, within span, take func(*kgo.Record) error) (searched, error) {
	within = within.widened()
	bounds, err := kafka.Bounds(ctx, t.admin, topic, within.since, within.until)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.note("there is no topic %s", topic)
		return searched{missing: true}, nil
	}
	if err != nil {
		return searched{}, err
	}
	starts, err := t.admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return searched{}, fmt.Errorf("list start offsets of topic %s: %w", topic, err)
	}
	home := int32(-1)
	if key != nil {
		home = partitionOf(topic, key, len(bounds[topic]))
	}
	var result searched
	for partition, part := range bounds[topic] {
		start, _ := starts.Lookup(topic, partition)
		if (home < 0 || partition == home) && start.Offset > 0 && part.From <= start.Offset {
			result.cut = true
		}
	}
	enough := false
	read := func(ranges kafka.Ranges) error {
		total, count := ranges.Offsets(), int64(0)
		err := kafka.Scan(ctx, t.options, ranges, func(record *kgo.Record) error {
			if count++; count%1024 == 0 {
				t.opts.Progress(topic, count, total)
			}
			err := take(record)
			enough = enough || errors.Is(err, stop)
			return err
		})
		if err != nil {
			return fmt.Errorf("search topic %s: %w", topic, err)
		}
		return nil
	}
	if home >= 0 {
		first := make(kafka.Ranges)
		first.Set(topic, home, bounds[topic][home])
		delete(bounds[topic], home)
		if err := read(first); err != nil || enough {
			return result, err
		}
	}
	return result, read(bounds)
}

// partitionOf is where records with the key go, as Kafka's clients and ours have it.
func partitionOf(topic string, key []byte, partitions int) int32 {
	if partitions == 0 {
		return -1
	}
	return int32(kgo.StickyKeyPartitioner(nil).ForTopic(topic).Partition(&kgo.Record{Topic: topic, Key: key}, partitions)) //nolint:gosec // Kafka's own range
}

// at reads one record; nil when it is no longer there.
func (t *Tracer) at(ctx context.Context, topic string, partition int32, offset int64) (*kgo.Record, error) {
	bounds, err := kafka.Bounds(ctx, t.admin, topic, time.Time{}, time.Time{})
	if err != nil {
		return nil, err
	}
	part := bounds[topic][partition]
	if offset < part.From || offset >= part.To {
		return nil, nil
	}
	one := make(kafka.Ranges)
	one.Set(topic, partition, kafka.Range{From: offset, To: offset + 1})
	var found *kgo.Record
	err = kafka.Scan(ctx, t.options, one, func(record *kgo.Record) error {
		found = record
		return stop
	})
	if err != nil {
		return nil, fmt.Errorf("read topic %s partition %d offset %d: %w", topic, partition, offset, err)
	}
	return found, nil
}

// progress is where a group is in a partition.
type progress struct {
	known     bool  // the group could be asked
	committed int64 // -1: none
	lag       int64 // to the last stable offset
	metadata  string
}

// passed tells whether the group has consumed the offset.
func (p progress) passed(offset int64) bool { return p.committed > offset }

func (t *Tracer) progress(ctx context.Context, stage, topic string, partition int32) (progress, error) {
	group := t.opts.Kafka.Group + "-" + stage
	fetched, err := t.admin.FetchOffsets(ctx, group)
	switch {
	case errors.Is(err, kerr.GroupIDNotFound):
	case isDone(ctx, err):
		return progress{}, err
	case err != nil:
		t.note("the offsets of group %s can't be read: %s", group, err)
		return progress{committed: -1}, nil
	}
	p := progress{known: true, committed: -1}
	if offset, ok := fetched.Lookup(topic, partition); ok && offset.Err == nil {
		p.committed, p.metadata = offset.At, offset.Metadata
	}
	stable, err := t.admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = stable.Error()
	}
	if err != nil {
		return p, fmt.Errorf("list stable offsets of topic %s: %w", topic, err)
	}
	var last kadm.ListedOffset
	if last, _ = stable.Lookup(topic, partition); last.Err == nil {
		p.lag = max(last.Offset-max(p.committed, 0), 0)
	}
	return p, nil
}
