// Package objectlog reads the topic `objects` back. The log is the fetcher's
// only memory of what was announced: intake asks it what need not be announced
// again, split which announcement of an object came first.
package objectlog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/kafka"
)

// Reader reads committed records. Each read is a client of its own, which is
// gone afterwards.
type Reader struct {
	// Client gives options for one more client: brokers, TLS, SASL.
	Client func() ([]kgo.Opt, error)
	Topic  string
}

// Until reads, in each partition of ends, the committed records from the first
// one not older than since up to the offset given, and hands them to yield in
// the order of their offsets within a partition. A few records after that may
// come too.
func (r *Reader) Until(ctx context.Context, ends map[int32]int64, since time.Time, yield func(*kgo.Record)) error {
	return r.read(ctx, func(ctx context.Context, admin *kadm.Client) (kafka.Ranges, error) {
		return r.since(ctx, admin, since, func(partition int32) (int64, bool) {
			end, wanted := ends[partition]
			return end, wanted
		})
	}, func(record *kgo.Record) bool { yield(record); return false })
}

// All reads every committed record of all partitions that is not older than since.
func (r *Reader) All(ctx context.Context, since time.Time, yield func(*kgo.Record)) error {
	return r.read(ctx, func(ctx context.Context, admin *kadm.Client) (kafka.Ranges, error) {
		return r.since(ctx, admin, since, func(int32) (int64, bool) { return math.MaxInt64, true })
	}, func(record *kgo.Record) bool { yield(record); return false })
}

// Earliest is the lowest timestamp among the first committed record at or
// after each position; now when there is none.
func (r *Reader) Earliest(ctx context.Context, positions map[int32]int64) (time.Time, error) {
	earliest := time.Now()
	err := r.read(ctx, func(ctx context.Context, admin *kadm.Client) (kafka.Ranges, error) {
		return r.from(ctx, admin, positions)
	}, func(record *kgo.Record) bool {
		if record.Timestamp.Before(earliest) {
			earliest = record.Timestamp
		}
		return true
	})
	return earliest, err
}

// read hands the records of what choose gives to yield, until yield has enough
// of a partition or the range ends.
func (r *Reader) read(ctx context.Context, choose func(context.Context, *kadm.Client) (kafka.Ranges, error), yield func(*kgo.Record) (enough bool)) error {
	opts, err := r.Client()
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("read %s back: %w", r.Topic, err)
	}
	chosen, err := choose(ctx, kadm.NewClient(client))
	client.Close()
	if err != nil {
		return fmt.Errorf("read %s back: %w", r.Topic, err)
	}
	if opts, err = r.Client(); err != nil {
		return err
	}
	err = kafka.Scan(ctx, opts, chosen, func(record *kgo.Record) error {
		if yield(record) {
			return kafka.ErrStopPartition
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read %s back: %w", r.Topic, err)
	}
	return nil
}

func (r *Reader) since(ctx context.Context, admin *kadm.Client, since time.Time, endOf func(int32) (int64, bool)) (kafka.Ranges, error) {
	starts, err := admin.ListOffsetsAfterMilli(ctx, since.UnixMilli(), r.Topic)
	if err != nil {
		return nil, fmt.Errorf("list offsets since %s: %w", since.Format(time.RFC3339), err)
	}
	positions := make(map[int32]int64)
	for _, start := range starts[r.Topic] {
		if start.Err != nil {
			return nil, fmt.Errorf("partition %d: list offsets: %w", start.Partition, start.Err)
		}
		positions[start.Partition] = start.Offset
	}
	chosen, err := r.from(ctx, admin, positions)
	if err != nil {
		return nil, err
	}
	for partition, part := range chosen[r.Topic] {
		end, wanted := endOf(partition)
		part.To = min(part.To, end)
		if chosen.Set(r.Topic, partition, part); !wanted {
			delete(chosen[r.Topic], partition)
		}
	}
	return chosen, nil
}

// from is what the log has from positions on, up to what is committed.
func (r *Reader) from(ctx context.Context, admin *kadm.Client, positions map[int32]int64) (kafka.Ranges, error) {
	firsts, err := admin.ListStartOffsets(ctx, r.Topic)
	if err != nil {
		return nil, fmt.Errorf("list start offsets: %w", err)
	}
	lasts, err := admin.ListCommittedOffsets(ctx, r.Topic)
	if err != nil {
		return nil, fmt.Errorf("list end offsets: %w", err)
	}
	chosen := make(kafka.Ranges)
	for partition, position := range positions {
		first, hasFirst := firsts.Lookup(r.Topic, partition)
		last, hasLast := lasts.Lookup(r.Topic, partition)
		if err := errors.Join(first.Err, last.Err); err != nil || !hasFirst || !hasLast {
			return nil, fmt.Errorf("partition %d: list offsets: %w", partition, err)
		}
		chosen.Set(r.Topic, partition, kafka.Range{From: max(position, first.Offset), To: last.Offset})
	}
	return chosen, nil
}
