package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Range is a part of one partition: the offsets [From, To).
type Range struct{ From, To int64 }

// Ranges are parts of topics, by topic and partition.
type Ranges map[string]map[int32]Range

// Set puts one partition's range in place.
func (r Ranges) Set(topic string, partition int32, part Range) {
	if r[topic] == nil {
		r[topic] = make(map[int32]Range)
	}
	r[topic][partition] = part
}

// Add puts the ranges of others in place.
func (r Ranges) Add(others Ranges) {
	for topic, partitions := range others {
		for partition, part := range partitions {
			r.Set(topic, partition, part)
		}
	}
}

// Offsets counts the offsets of all ranges. There are fewer records: ends of
// transactions and aborted records have offsets too.
func (r Ranges) Offsets() (count int64) {
	for _, partitions := range r {
		for _, part := range partitions {
			count += max(part.To-part.From, 0)
		}
	}
	return count
}

// What a scan's yield returns when it has enough: of everything, or of the
// partition that the record is of.
var (
	ErrStopScan      = errors.New("enough of everything")
	ErrStopPartition = errors.New("enough of the partition")
)

const (
	// scanFetchBytes bounds what a scan fetches ahead of its reader, and
	// scanPartitionBytes of one partition; a larger batch comes all the same.
	scanFetchBytes     = 16 * mebibyte
	scanPartitionBytes = 4 * mebibyte
	// scanLook is after how long without a record a scan looks whether there is
	// any left to come.
	scanLook = 2 * time.Second
)

// scanPatience ends a scan that gets nothing more.
var scanPatience = 30 * time.Second

// Bounds are the ranges of every partition of a topic that hold the committed
// records produced in [since, until); a zero time is the log's begin, or its
// end: the last stable offset. Every partition is there, also with nothing in it.
//
// The log finds the first record at or after a time. Where several producers
// write, records may come a little before others that are older: a reader to
// whom the moment matters compares each record's own timestamp.
func Bounds(ctx context.Context, admin *kadm.Client, topic string, since, until time.Time) (Ranges, error) {
	list := func(what string, read func() (kadm.ListedOffsets, error)) (map[int32]kadm.ListedOffset, error) {
		listed, err := read()
		if err == nil {
			err = listed.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("bounds in topic %s: list %s offsets: %w", topic, what, err)
		}
		return listed[topic], nil
	}
	starts, err := list("start", func() (kadm.ListedOffsets, error) { return admin.ListStartOffsets(ctx, topic) })
	if err != nil {
		return nil, err
	}
	stable, err := list("stable", func() (kadm.ListedOffsets, error) { return admin.ListCommittedOffsets(ctx, topic) })
	if err != nil {
		return nil, err
	}
	at := func(moment time.Time) (map[int32]kadm.ListedOffset, error) {
		if moment.IsZero() {
			return nil, nil
		}
		return list("timestamp", func() (kadm.ListedOffsets, error) {
			return admin.ListOffsetsAfterMilli(ctx, moment.UnixMilli(), topic)
		})
	}
	sinces, err := at(since)
	if err != nil {
		return nil, err
	}
	untils, err := at(until)
	if err != nil {
		return nil, err
	}
	result := make(Ranges)
	for partition, start := range starts {
		last, found := stable[partition]
		if !found {
			return nil, fmt.Errorf("bounds in topic %s: partition %d has no stable offset", topic, partition)
		}
		part := Range{From: start.Offset, To: last.Offset}
		if offset, found := sinces[partition]; found {
			part.From = max(part.From, offset.Offset)
		}
		if offset, found := untils[partition]; found {
			part.To = min(part.To, offset.Offset)
		}
		part.From = min(part.From, part.To)
		result.Set(topic, partition, part)
	}
	return result, nil
}

// Scan reads ranges of partitions outside of any group: it hands each committed
// record to yield, in the order of offsets within a partition, until all are
// read, ctx ends, or yield returns an error. ErrStopScan ends it well, and
// ErrStopPartition one partition's range.
//
// It ends too where a range's last offsets hold no record: the ends of
// transactions, what was aborted, what retention took meanwhile. A range must
// lie below the last stable offset (as those of Bounds do), or the scan waits for
// its end to come and fails when it does not.
//
// client are options of Options, not shared with a living client. The record
// belongs to yield.
func Scan(ctx context.Context, client []kgo.Opt, ranges Ranges, yield func(*kgo.Record) error) error {
	s := scan{left: make(Ranges), yield: yield}
	starts := make(map[string]map[int32]kgo.Offset)
	for topic, partitions := range ranges {
		for partition, part := range partitions {
			if part.From >= part.To {
				continue
			}
			s.left.Set(topic, partition, part)
			if starts[topic] == nil {
				starts[topic] = make(map[int32]kgo.Offset)
			}
			starts[topic][partition] = kgo.NewOffset().At(part.From)
		}
	}
	s.prune()
	if len(s.left) == 0 {
		return ctx.Err()
	}
	var err error
	s.client, err = kgo.NewClient(append(slices.Clone(client),
		kgo.FetchMaxBytes(scanFetchBytes),
		kgo.FetchMaxPartitionBytes(scanPartitionBytes),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Where a transaction's end is the last thing in a range, only this shows
		// that the range was read.
		kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.ConsumePartitions(starts),
	)...)
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	defer s.client.Close()
	if err := s.run(ctx); err != nil && !errors.Is(err, ErrStopScan) {
		return err
	}
	return nil
}

// scan is one call of Scan: left shrinks from the front as records come.
type scan struct {
	client *kgo.Client
	left   Ranges
	yield  func(*kgo.Record) error
}

func (s *scan) run(ctx context.Context) error {
	quiet := time.Duration(0) // waited for records, not taken by yield
	for len(s.left) > 0 {
		begun := time.Now()
		pollCtx, cancel := context.WithTimeout(ctx, scanLook)
		fetches := s.client.PollFetches(pollCtx)
		cancel()
		if ctx.Err() != nil {
			return fmt.Errorf("scan: %w, at %s", ctx.Err(), s.left)
		}
		if quiet += time.Since(begun); fetches.NumRecords() > 0 {
			quiet = 0
		}
		for records := fetches.RecordIter(); !records.Done(); {
			if err := s.take(records.Next()); err != nil {
				return err
			}
		}
		moved, err := s.failed(fetches)
		if err != nil {
			return err
		}
		if moved || fetches.NumRecords() == 0 {
			if err := s.look(ctx); err != nil {
				return err
			}
		}
		s.prune()
		if len(s.left) > 0 && quiet > scanPatience {
			return fmt.Errorf("scan: nothing came for %s, at %s", scanPatience, s.left)
		}
	}
	return nil
}

// take hands a record over if it lies in what is left of its range.
func (s *scan) take(record *kgo.Record) error {
	part, reading := s.left[record.Topic][record.Partition]
	if !reading || record.Offset < part.From {
		return nil
	}
	if record.Offset < part.To && !record.Attrs.IsControl() {
		switch err := s.yield(record); {
		case errors.Is(err, ErrStopPartition):
			part.To = record.Offset
		case err != nil:
			return fmt.Errorf("scan topic %s partition %d offset %d: %w", record.Topic, record.Partition, record.Offset, err)
		}
	}
	part.From = record.Offset + 1
	s.shorten(record.Topic, record.Partition, part)
	return nil
}

// failed reads the fetches' errors. That an offset is out of range says that
// something else moved the log: look finds out how.
func (s *scan) failed(fetches kgo.Fetches) (moved bool, err error) {
	fetches.EachError(func(topic string, partition int32, failure error) {
		part, reading := s.left[topic][partition]
		switch {
		case errors.Is(failure, context.DeadlineExceeded) || errors.Is(failure, context.Canceled):
			// The poll's own end.
		case errors.Is(failure, kerr.OffsetOutOfRange):
			moved = moved || reading
		case err == nil && (reading || topic == ""):
			err = fmt.Errorf("scan topic %s partition %d offset %d: %w", topic, partition, part.From, failure)
		}
	})
	return moved, err
}

// look asks where the logs begin now: what lies before is gone, and what was
// to be read of it with it. The rest is read from there.
func (s *scan) look(ctx context.Context) error {
	admin := kadm.NewClient(s.client)
	starts, err := admin.ListStartOffsets(ctx, slices.Collect(maps.Keys(s.left))...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return fmt.Errorf("scan: list start offsets, at %s: %w", s.left, err)
	}
	again := make(map[string]map[int32]kgo.Offset)
	gone := make(map[string][]int32)
	for topic, partitions := range s.left {
		for partition, part := range maps.Clone(partitions) {
			start, found := starts.Lookup(topic, partition)
			if !found {
				return fmt.Errorf("scan topic %s partition %d offset %d: no such partition", topic, partition, part.From)
			}
			if start.Offset <= part.From {
				continue
			}
			part.From = start.Offset
			gone[topic] = append(gone[topic], partition)
			if s.shorten(topic, partition, part) {
				if again[topic] == nil {
					again[topic] = make(map[int32]kgo.Offset)
				}
				again[topic][partition] = kgo.NewOffset().At(part.From)
			}
		}
	}
	if len(gone) > 0 {
		s.client.RemoveConsumePartitions(gone)
		s.client.AddConsumePartitions(again)
	}
	return nil
}

// shorten says whether something is left of the range.
func (s *scan) shorten(topic string, partition int32, part Range) bool {
	if part.From < part.To {
		s.left[topic][partition] = part
		return true
	}
	delete(s.left[topic], partition)
	s.client.PauseFetchPartitions(map[string][]int32{topic: {partition}})
	return false
}

func (s *scan) prune() {
	maps.DeleteFunc(s.left, func(_ string, partitions map[int32]Range) bool { return len(partitions) == 0 })
}

// String names the ranges as messages do: topic partition [from, to).
func (r Ranges) String() string {
	var parts []byte
	for _, topic := range slices.Sorted(maps.Keys(r)) {
		for _, partition := range slices.Sorted(maps.Keys(r[topic])) {
			part := r[topic][partition]
			if len(parts) > 0 {
				parts = append(parts, ", "...)
			}
			parts = fmt.Appendf(parts, "topic %s partition %d offsets [%d, %d)", topic, partition, part.From, part.To)
		}
	}
	if len(parts) == 0 {
		return "no range"
	}
	return string(parts)
}
