package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/topics"
)

// outcome is the comparison of what was put in with what came out.
type outcome struct {
	lines, rows, letters   int64
	lost, doubled, surplus []string // ids, of rows and of dead letters
}

func (o *outcome) clean() bool { return len(o.lost)+len(o.doubled)+len(o.surplus) == 0 }

// settleDown waits until everything has come through, ends the stages in good
// order, and compares once more: nothing may come after that.
func (c *campaign) settleDown(ctx context.Context) (*outcome, error) {
	deadline := time.Now().Add(c.settle)
	want := c.feeder.expectedRows.Load()
	var found *outcome
	for quiet := 0; ; {
		before := c.rowsSeen.Load()
		if !delay.For(ctx, time.Second) {
			return nil, ctx.Err()
		}
		rows := c.countRows(ctx)
		if rows < 0 || rows != before {
			quiet = 0
		} else {
			quiet++
		}
		late := time.Now().After(deadline)
		if !late && (rows < want || quiet < 3) {
			continue
		}
		var err error
		if found, err = c.verify(ctx); err != nil && !late {
			continue
		} else if err != nil {
			return nil, err
		}
		if found.clean() || late || len(found.doubled)+len(found.surplus) > 0 && len(found.lost) == 0 {
			break
		}
	}
	if behind := c.watch.behind(); len(found.lost) > 0 && behind != "" {
		c.problem("not everything came through within %s; behind:%s", c.settle, behind)
	}
	c.over.Store(true)
	var ending sync.WaitGroup
	for stage, instances := range c.instances {
		for _, i := range instances {
			ending.Go(func() { (&stageFaults{c: c, stage: stage}).terminate(i) })
		}
	}
	ending.Wait()
	return c.verify(ctx)
}

// verify reads every row id and every dead letter.
func (c *campaign) verify(ctx context.Context) (*outcome, error) {
	v := newVerdict(c.feeder)
	rows, err := c.table.Query(ctx, "SELECT id FROM "+tableName)
	if err != nil {
		return nil, fmt.Errorf("read the row ids: %w", err)
	}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		v.row(id)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the row ids: %w", err)
	}
	if err := rows.Close(); err != nil {
		return nil, err
	}
	if err := c.readAll(ctx, c.topic(topics.DeadLetter), func(r *kgo.Record) error {
		if topics.IsRetried(r) {
			return nil
		}
		letter, err := topics.DecodeDeadLetter(r)
		if err == nil {
			v.letter(&letter)
		}
		return err
	}); err != nil {
		return nil, fmt.Errorf("read the dead letters: %w", err)
	}
	return v.conclude(), nil
}

// readAll gives every committed record of a topic.
func (c *campaign) readAll(ctx context.Context, topic string, yield func(*kgo.Record) error) error {
	ends, err := c.admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return err
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	client, err := kgo.NewClient(c.kafkaOptions(kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())...)
	if err != nil {
		return err
	}
	defer client.Close()
	var failed error
	for len(left) > 0 && failed == nil {
		limit, cancel := context.WithTimeout(ctx, 20*time.Second)
		fetches := client.PollFetches(limit)
		cancel()
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("partitions %v: %w", left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if end, reading := left[r.Partition]; reading && r.Offset < end && !r.Attrs.IsControl() && failed == nil {
				failed = yield(r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return failed
}

// verdict counts what came of each line.
type verdict struct {
	objects map[string]*account
	found   outcome
}

type account struct {
	*object
	rows    []uint64 // a bit for each event of each line
	letters map[int64]int
	whole   int // dead letters of the object itself
}

func newVerdict(f *feeder) *verdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := &verdict{objects: make(map[string]*account, len(f.objects))}
	v.found.lines = f.lines.Load()
	for _, o := range f.objects {
		v.objects[o.id] = &account{object: o, rows: make([]uint64, (len(o.kinds)*eventsInList+63)/64), letters: map[int64]int{}}
	}
	return v
}

func (v *verdict) row(id string) {
	v.found.rows++
	objectID, line, event, err := identity.ParseRowID(id)
	a := v.objects[objectID]
	if err != nil || a == nil || line < 1 || line > int64(len(a.kinds)) || event >= a.kinds[line-1].rows() {
		v.found.surplus = append(v.found.surplus, id)
		return
	}
	place := (line-1)*eventsInList + int64(event)
	if a.rows[place/64]&(1<<(place%64)) != 0 {
		v.found.doubled = append(v.found.doubled, id)
	}
	a.rows[place/64] |= 1 << (place % 64)
}

func (v *verdict) letter(letter *topics.DeadLetterRecord) {
	v.found.letters++
	id := fmt.Sprintf("%s (dead letter, %s)", identity.RowID(letter.Object, letter.Line, letter.Event), letter.Reason)
	a := v.objects[letter.Object]
	switch {
	case a != nil && a.corrupt && letter.Reason == topics.ReasonObjectCorrupt:
		if a.whole++; a.whole > 1 {
			v.found.doubled = append(v.found.doubled, id)
		}
	case a == nil || letter.Event != 0 || letter.Line < 1 || letter.Line > int64(len(a.kinds)) || a.kinds[letter.Line-1].letters() == 0:
		v.found.surplus = append(v.found.surplus, id)
	default:
		if a.letters[letter.Line]++; a.letters[letter.Line] > 1 {
			v.found.doubled = append(v.found.doubled, id)
		}
	}
}

func (v *verdict) conclude() *outcome {
	for _, a := range v.objects {
		if a.corrupt && a.whole == 0 {
			v.found.lost = append(v.found.lost, identity.RowID(a.id, 0, 0)+" (dead letter of the object)")
		}
		for n, kind := range a.kinds {
			line := int64(n + 1)
			for event := range kind.rows() {
				place := int64(n)*eventsInList + int64(event)
				if a.rows[place/64]&(1<<(place%64)) == 0 {
					v.found.lost = append(v.found.lost, identity.RowID(a.id, line, event))
				}
			}
			if kind.letters() > a.letters[line] {
				v.found.lost = append(v.found.lost, identity.RowID(a.id, line, 0)+" (dead letter)")
			}
		}
	}
	return &v.found
}
