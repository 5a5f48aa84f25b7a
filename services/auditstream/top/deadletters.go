package top

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/topics"
)

// deadLetters counts the topic's tail, and goes on where it was each time.
type deadLetters struct {
	topic     string
	window    time.Duration
	client    *kgo.Client
	positions map[int32]int64 // the next offset to come
	slots     map[int64]map[deadLetterKind]int64
	last      time.Time
}

type deadLetterKind struct{ stage, reason string }

// slot is how exactly the window's edge is kept.
const slot = 10 * time.Second

// deadLettersAtOnce bounds what is fetched ahead: a dead letter may hold a long line.
const deadLettersAtOnce = 16 << 20

func newDeadLetters(options []kgo.Opt, topic string, window time.Duration) (*deadLetters, error) {
	client, err := kgo.NewClient(append(options[:len(options):len(options)],
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxBytes(deadLettersAtOnce),
	)...)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	return &deadLetters{
		topic: topic, window: window, client: client,
		positions: make(map[int32]int64), slots: make(map[int64]map[deadLetterKind]int64),
	}, nil
}

func (d *deadLetters) close() { d.client.Close() }

func (l *look) countDeadLetters(ctx context.Context) {
	d := l.deadLetters
	complete, err := d.read(ctx, l.sample.At, l.starts[d.topic], l.stable[d.topic])
	if err != nil {
		l.problem("read topic %s: %s", d.topic, err)
	}
	l.sample.DeadLetters = d.count(l.sample.At)
	l.sample.DeadLetters.Complete = complete && err == nil
}

// read counts what has come up to the ends, or until ctx is done.
func (d *deadLetters) read(ctx context.Context, now time.Time, starts, ends map[int32]kadm.ListedOffset) (complete bool, err error) {
	if err := d.begin(ctx, now, starts, ends); err != nil {
		return false, err
	}
	for {
		behind := false
		for partition, end := range ends {
			if position, known := d.positions[partition]; partition >= 0 && end.Err == nil && (!known || position < end.Offset) {
				behind = true
			}
		}
		if !behind {
			return true, nil
		}
		fetches := d.client.PollFetches(ctx)
		fetches.EachRecord(d.add)
		if ctx.Err() != nil {
			return false, nil
		}
		if err := fetches.Err(); err != nil {
			// A log that was made anew or cut below us: the window begins again.
			d.forget()
			return false, err
		}
	}
}

// begin makes the partitions that are not followed yet be so, from the window's
// beginning.
func (d *deadLetters) begin(ctx context.Context, now time.Time, starts, ends map[int32]kadm.ListedOffset) error {
	fresh := make(map[int32]bool)
	for partition, end := range ends {
		if _, known := d.positions[partition]; !known && partition >= 0 && end.Err == nil {
			fresh[partition] = true
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	// A record's time is when its producing began, a little before it was in the log.
	since, err := kadm.NewClient(d.client).ListOffsetsAfterMilli(ctx, now.Add(-d.window).UnixMilli(), d.topic)
	if err == nil {
		err = since.Error()
	}
	if err != nil {
		return fmt.Errorf("list offsets by time: %w", err)
	}
	from := make(map[int32]kgo.Offset)
	for partition := range fresh {
		first, found := since.Lookup(d.topic, partition)
		if !found {
			continue
		}
		// Without a record after that time it is the end, which may be beyond what
		// is stable: an open transaction must not be jumped over.
		position := max(min(first.Offset, ends[partition].Offset), starts[partition].Offset)
		d.positions[partition] = position
		from[partition] = kgo.NewOffset().At(position)
	}
	d.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{d.topic: from})
	return nil
}

func (d *deadLetters) forget() {
	for partition := range d.positions {
		d.client.RemoveConsumePartitions(map[string][]int32{d.topic: {partition}})
	}
	clear(d.positions)
	clear(d.slots)
}

func (d *deadLetters) add(record *kgo.Record) {
	d.positions[record.Partition] = record.Offset + 1
	if record.Attrs.IsControl() {
		return
	}
	kind := deadLetterKind{"unknown", "unknown"}
	if letter, err := topics.DecodeDeadLetter(record); err == nil {
		kind = deadLetterKind{letter.Stage, string(letter.Reason)}
	}
	number := record.Timestamp.UnixNano() / int64(slot)
	if d.slots[number] == nil {
		d.slots[number] = make(map[deadLetterKind]int64)
	}
	d.slots[number][kind]++
	if record.Timestamp.After(d.last) {
		d.last = record.Timestamp
	}
}

// count is what lies in the window before now.
func (d *deadLetters) count(now time.Time) DeadLetters {
	result := DeadLetters{Window: d.window.Seconds(), Reasons: []DeadLetterCount{}}
	oldest := now.Add(-d.window).UnixNano() / int64(slot)
	totals := make(map[deadLetterKind]int64)
	for number, kinds := range d.slots {
		if number < oldest {
			delete(d.slots, number)
			continue
		}
		for kind, count := range kinds {
			totals[kind] += count
			result.Total += count
		}
	}
	for kind, count := range totals {
		result.Reasons = append(result.Reasons, DeadLetterCount{kind.stage, kind.reason, count})
	}
	slices.SortFunc(result.Reasons, func(a, b DeadLetterCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Reason, b.Reason))
	})
	if result.Total > 0 {
		last := d.last.UTC()
		result.Last = &last
	}
	return result
}
