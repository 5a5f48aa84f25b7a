package top

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type topicPartition struct {
	topic     string
	partition int32
}

// ages knows when the first record at or after an offset was produced.
type ages struct {
	options []kgo.Opt
	known   map[topicPartition][]firstRecord
}

// firstRecord is the first that is no marker in [asked, offset]. Without one the
// time is zero and offset is the end up to which there is none.
type firstRecord struct {
	asked, offset int64
	at            time.Time
}

func (f firstRecord) answers(position int64) bool { return f.asked <= position && position <= f.offset }

func (a *ages) of(key topicPartition, position int64) (at time.Time, known bool) {
	for _, first := range a.known[key] {
		if first.answers(position) {
			return first.at, true
		}
	}
	return time.Time{}, false
}

// read finds the first record from each of the positions on and before the ends.
// What was read before and still answers is kept. Where ctx is done first, the
// rest stays unknown.
func (a *ages) read(ctx context.Context, wanted map[topicPartition][]int64, ends map[topicPartition]int64) error {
	kept := make(map[topicPartition][]firstRecord)
	// Several groups may be at several positions of one partition: one after the
	// other, each time in all partitions at once.
	var rounds []map[topicPartition]int64
	for key, positions := range wanted {
		for _, position := range positions {
			round := 0
			if at, known := a.of(key, position); known && !at.IsZero() {
				for _, first := range a.known[key] {
					if first.answers(position) {
						kept[key] = append(kept[key], first)
						break
					}
				}
				continue
			}
			for ; round < len(rounds); round++ {
				if _, taken := rounds[round][key]; !taken {
					break
				}
			}
			if round == len(rounds) {
				rounds = append(rounds, make(map[topicPartition]int64))
			}
			rounds[round][key] = position
		}
	}
	a.known = kept
	for _, round := range rounds {
		if err := a.readRound(ctx, round, ends); err != nil {
			return err
		}
	}
	return nil
}

// fetchBytes of a partition: one record is wanted, and a broker sends at least
// one whole batch anyway.
const fetchBytes = 64 << 10

func (a *ages) readRound(ctx context.Context, positions, ends map[topicPartition]int64) error {
	starts := make(map[string]map[int32]kgo.Offset)
	for key, position := range positions {
		if starts[key.topic] == nil {
			starts[key.topic] = make(map[int32]kgo.Offset)
		}
		starts[key.topic][key.partition] = kgo.NewOffset().At(position)
	}
	client, err := kgo.NewClient(append(a.options[:len(a.options):len(a.options)],
		kgo.ConsumePartitions(starts),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // the end of the log is often a marker
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxPartitionBytes(fetchBytes),
	)...)
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	defer client.Close()
	open := make(map[topicPartition]bool, len(positions))
	for key := range positions {
		open[key] = true
	}
	for len(open) > 0 {
		fetches := client.PollFetches(ctx)
		fetches.EachRecord(func(record *kgo.Record) {
			key := topicPartition{record.Topic, record.Partition}
			if !open[key] {
				return
			}
			first := firstRecord{asked: positions[key], offset: record.Offset}
			if !record.Attrs.IsControl() {
				first.at = record.Timestamp
			} else if record.Offset+1 < ends[key] {
				return
			}
			a.known[key] = append(a.known[key], first)
			delete(open, key)
			client.PauseFetchPartitions(map[string][]int32{key.topic: {key.partition}})
		})
		if ctx.Err() != nil {
			return nil // the rest is unknown this time
		}
		var failed error
		fetches.EachError(func(topic string, partition int32, err error) {
			if open[topicPartition{topic, partition}] {
				failed = errors.Join(failed, fmt.Errorf("%s/%d: %w", topic, partition, err))
				delete(open, topicPartition{topic, partition})
			}
		})
		if failed != nil {
			return failed
		}
	}
	return nil
}
