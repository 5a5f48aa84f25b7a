// Package objectlog reads the topic `objects` back. The log is the fetcher's
// only memory of what was announced: intake asks it what need not be announced
// again, split which announcement of an object came first.
package objectlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// noProgressLimit ends a read that gets nothing more although it has not come
// to its end: the log was cut or made anew below it.
const noProgressLimit = 30 * time.Second

// maxBytes bounds what is fetched ahead of the reader.
const maxBytes = 16 << 20

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
	return r.read(ctx, func(ctx context.Context, admin *kadm.Client) (ranges, error) {
		return r.since(ctx, admin, since, func(partition int32) (int64, bool) {
			end, wanted := ends[partition]
			return end, wanted
		})
	}, func(record *kgo.Record) bool { yield(record); return false })
}

// All reads every committed record of all partitions that is not older than since.
func (r *Reader) All(ctx context.Context, since time.Time, yield func(*kgo.Record)) error {
	return r.read(ctx, func(ctx context.Context, admin *kadm.Client) (ranges, error) {
		return r.since(ctx, admin, since, func(int32) (int64, bool) { return math.MaxInt64, true })
	}, func(record *kgo.Record) bool { yield(record); return false })
}

// Earliest is the lowest timestamp among the first committed record at or
// after each position; now when there is none.
func (r *Reader) Earliest(ctx context.Context, positions map[int32]int64) (time.Time, error) {
	earliest := time.Now()
	err := r.read(ctx, func(ctx context.Context, admin *kadm.Client) (ranges, error) {
		return r.from(ctx, admin, positions)
	}, func(record *kgo.Record) bool {
		if record.Timestamp.Before(earliest) {
			earliest = record.Timestamp
		}
		return true
	})
	return earliest, err
}

// ranges are what to read of each partition: [from, to), and never empty.
type ranges map[int32]struct{ from, to int64 }

// read hands the records of what choose gives to yield, until yield has enough
// of a partition or the range ends.
func (r *Reader) read(ctx context.Context, choose func(context.Context, *kadm.Client) (ranges, error), yield func(*kgo.Record) (enough bool)) error {
	opts, err := r.Client()
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(append(opts,
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Where a transaction's end is the last thing in the range, only this
		// shows that the range was read.
		kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxBytes(maxBytes),
	)...)
	if err != nil {
		return fmt.Errorf("read %s back: %w", r.Topic, err)
	}
	defer client.Close()
	chosen, err := choose(ctx, kadm.NewClient(client))
	if err != nil {
		return fmt.Errorf("read %s back: %w", r.Topic, err)
	}
	starts := make(map[int32]kgo.Offset, len(chosen))
	for partition, part := range chosen {
		starts[partition] = kgo.NewOffset().At(part.from)
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{r.Topic: starts})
	if err := consume(ctx, client, chosen, yield); err != nil {
		return fmt.Errorf("read %s back: %w", r.Topic, err)
	}
	return nil
}

func (r *Reader) since(ctx context.Context, admin *kadm.Client, since time.Time, endOf func(int32) (int64, bool)) (ranges, error) {
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
	for partition, part := range chosen {
		end, wanted := endOf(partition)
		part.to = min(part.to, end)
		if chosen[partition] = part; !wanted || part.from >= part.to {
			delete(chosen, partition)
		}
	}
	return chosen, nil
}

// from is what the log has from positions on, up to what is committed.
func (r *Reader) from(ctx context.Context, admin *kadm.Client, positions map[int32]int64) (ranges, error) {
	firsts, err := admin.ListStartOffsets(ctx, r.Topic)
	if err != nil {
		return nil, fmt.Errorf("list start offsets: %w", err)
	}
	lasts, err := admin.ListCommittedOffsets(ctx, r.Topic)
	if err != nil {
		return nil, fmt.Errorf("list end offsets: %w", err)
	}
	chosen := make(ranges)
	for partition, position := range positions {
		first, hasFirst := firsts.Lookup(r.Topic, partition)
		last, hasLast := lasts.Lookup(r.Topic, partition)
		if err := errors.Join(first.Err, last.Err); err != nil || !hasFirst || !hasLast {
			return nil, fmt.Errorf("partition %d: list offsets: %w", partition, err)
		}
		part := struct{ from, to int64 }{max(position, first.Offset), last.Offset}
		if part.from < part.to {
			chosen[partition] = part
		}
	}
	return chosen, nil
}

func consume(ctx context.Context, client *kgo.Client, reading ranges, yield func(*kgo.Record) (enough bool)) error {
	for len(reading) > 0 {
		pollCtx, cancel := context.WithTimeout(ctx, noProgressLimit)
		fetches := client.PollFetches(pollCtx)
		expired := pollCtx.Err() != nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case expired && fetches.NumRecords() == 0:
			return fmt.Errorf("nothing came for %s in partitions %v", noProgressLimit, slices.Sorted(maps.Keys(reading)))
		}
		fetches.EachRecord(func(record *kgo.Record) {
			part, still := reading[record.Partition]
			if !still {
				return
			}
			enough := record.Offset >= part.to
			if !enough && !record.Attrs.IsControl() {
				enough = yield(record)
			}
			if enough || record.Offset >= part.to-1 {
				delete(reading, record.Partition)
			}
		})
		if err := fetches.Err(); err != nil && len(reading) > 0 && !expired {
			return err
		}
	}
	return nil
}
