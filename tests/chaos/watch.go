package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/topics"
)

// place is one partition of what a stage consumes.
type place struct {
	stage     string
	partition int32
}

// watch follows how far every stage has come in every partition, and measures
// how long each fault held one up.
type watch struct {
	c     *campaign
	admin *kadm.Client

	mu      sync.Mutex
	reached map[place]int64
	ends    map[place]int64
	moved   map[place]time.Time // when it moved last, or had nothing to do
	pending []*recovery
	longest recovery
	stall   stall
}

// recovery is a fault from which not every partition has moved on yet. It
// began at the fault's first effect, so how long the fault lasts is part of it.
type recovery struct {
	kind  string
	began time.Time
	left  map[place]int64
	took  time.Duration
}

// stall is a partition that had work and did not move.
type stall struct {
	place place
	at    time.Time
	took  time.Duration
}

var consumed = map[string]string{"fetcher": topics.Objects, "enricher": topics.Raw, "sink": topics.Normalized}

const watchEvery = 500 * time.Millisecond

// trailing is how many offsets at a partition's end may be no records: the
// marks of transactions, and what was aborted, which nobody reads.
const trailing = 5

func newWatch(c *campaign, admin *kadm.Client) *watch {
	return &watch{c: c, admin: admin, reached: map[place]int64{}, ends: map[place]int64{}, moved: map[place]time.Time{}}
}

func (w *watch) run(ctx context.Context) {
	for delay.For(ctx, watchEvery) {
		for stage, topic := range consumed {
			w.look(ctx, stage, w.c.prefix+topic)
		}
	}
}

func (w *watch) look(ctx context.Context, stage, topic string) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	group := w.c.group + "-" + stage
	committed, err := w.admin.FetchOffsets(ctx, group)
	if err != nil {
		return
	}
	// Of committed records only: what is in an open transaction is nobody's work.
	ends, err := w.admin.ListCommittedOffsets(ctx, topic)
	if err != nil || ends.Error() != nil {
		return
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	ends.Each(func(end kadm.ListedOffset) {
		offset, found := committed.Lookup(topic, end.Partition)
		if found && offset.Err == nil {
			w.sample(place{stage, end.Partition}, offset.At, end.Offset, now)
		}
	})
}

func (w *watch) sample(p place, offset, end int64, now time.Time) {
	before, known := w.reached[p]
	if !known || offset != before || offset+trailing >= end {
		if known && w.ends[p] > before+trailing {
			w.stalled(p, now)
		}
		w.moved[p] = now
	}
	w.reached[p], w.ends[p] = offset, end
	kept := w.pending[:0]
	for _, r := range w.pending {
		if was, waits := r.left[p]; waits && (offset != was || offset+trailing >= end) {
			delete(r.left, p)
		}
		if len(r.left) > 0 {
			kept = append(kept, r)
			continue
		}
		r.took = now.Sub(r.began)
		w.c.recovered(r)
		if r.took > w.longest.took {
			w.longest = *r
		}
	}
	w.pending = kept
}

func (w *watch) stalled(p place, now time.Time) {
	if took := now.Sub(w.moved[p]); took > w.stall.took {
		w.stall = stall{p, w.moved[p], took}
	}
}

// fault begins the measuring of a recovery, of the stages given.
func (w *watch) fault(kind string, began time.Time, stages ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &recovery{kind: kind, began: began, left: map[place]int64{}}
	for p, offset := range w.reached {
		for _, stage := range stages {
			if p.stage == stage && offset+trailing < w.ends[p] {
				r.left[p] = offset
			}
		}
	}
	if len(r.left) > 0 {
		w.pending = append(w.pending, r)
	}
}

// behind says which partitions are how far behind.
func (w *watch) behind() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := ""
	for p, offset := range w.reached {
		if offset+trailing < w.ends[p] {
			text += fmt.Sprintf(" %s/%d %d of %d (%.0f s)", p.stage, p.partition, offset, w.ends[p], time.Since(w.moved[p]).Seconds())
		}
	}
	return text
}
