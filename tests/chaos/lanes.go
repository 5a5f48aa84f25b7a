package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/auditstream/auditstream/pkg/delay"
)

// fault is one kind of fault. run does it, undoes it, and reports whether it
// did what it was to do; it comes back soon when ctx ends.
type fault struct {
	kind string
	// whole is the kind that this one is a variety of; "" when it is none.
	whole   string
	must    bool // fails the campaign when it never fired
	affects []string
	run     func(ctx context.Context) bool
}

// lane is a sequence of faults to one thing. Lanes run at the same time.
type lane struct {
	c      *campaign
	name   string
	rng    *rand.Rand
	pauses [2]time.Duration // between two faults, from and to
	first  []fault          // one of each kind, before the rest
	deck   []fault          // shuffled again and again
}

func (c *campaign) lanes() []*lane {
	lanes := []*lane{c.tableLane(), c.kafkaLane(), c.s3Lane()}
	for _, stage := range stages {
		lanes = append(lanes, c.stageLane(stage))
	}
	for _, l := range lanes {
		if c.short {
			l.pauses = [2]time.Duration{l.pauses[0] / 2, l.pauses[1] / 2}
		}
		for _, f := range append(l.first, l.deck...) {
			if f.whole != "" {
				c.ledger.want(f.whole, true)
			}
			c.ledger.want(f.kind, f.must)
		}
	}
	return lanes
}

func (l *lane) run(ctx context.Context) {
	if !delay.For(ctx, 3*time.Second) { // the stages come up, lines begin to flow
		return
	}
	for {
		l.rng.Shuffle(len(l.first), func(i, j int) { l.first[i], l.first[j] = l.first[j], l.first[i] })
		l.rng.Shuffle(len(l.deck), func(i, j int) { l.deck[i], l.deck[j] = l.deck[j], l.deck[i] })
		turn := append(append([]fault(nil), l.first...), l.deck...)
		tried := map[string]int{}
		for n := 0; n < len(turn); n++ {
			f := turn[n]
			if !delay.For(ctx, between(l.rng, l.pauses[0], l.pauses[1])) {
				return
			}
			began := time.Now()
			l.c.note("begin: " + f.kind)
			l.c.watch.fault(f.kind, began, f.affects...)
			if !f.run(ctx) {
				l.c.note("did not fire: " + f.kind)
				// It met nobody at work; soon again.
				if tried[f.kind]++; f.must && tried[f.kind] < 4 {
					turn = slices.Insert(turn, min(n+3, len(turn)), f)
				}
				continue
			}
			l.c.ledger.fire(f.kind)
			if f.whole != "" {
				l.c.ledger.fire(f.whole)
			}
		}
		l.first = nil
	}
}

func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)+1))
}
