package main

import (
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/pkg/failpoint"
)

// points are the places between the durable steps of each stage.
var points = map[string][]string{
	"fetcher": {
		"split begun", "split read", "split told",
		"transaction polled", "transaction begun", "transaction processed", "transaction flushed", "transaction committed",
		"kafka Produce sent", "kafka Produce answered",
		"kafka TxnOffsetCommit sent", "kafka TxnOffsetCommit answered", "kafka EndTxn sent", "kafka EndTxn answered",
	},
	"enricher": {
		"transaction polled", "transaction begun", "transaction processed", "transaction flushed", "transaction committed",
		"kafka Produce sent", "kafka Produce answered",
		"kafka TxnOffsetCommit sent", "kafka TxnOffsetCommit answered", "kafka EndTxn sent", "kafka EndTxn answered",
	},
	"sink": {
		"sink chosen", "sink intended", "sink inserted", "sink committed", "sink looked up", "sink reattempt",
		"clickhouse insert", "kafka OffsetCommit sent", "kafka OffsetCommit answered",
	},
}

// rare points are come to only when the server remembers a token and has lost
// its rows, or when an open intent happens to come to the armed process.
var rare = map[string]bool{"sink reattempt": true}

// everyPointAfter is how long a campaign must be for every point to have its
// turn, and to be met by a process at work.
const everyPointAfter = 10 * time.Minute

// reachWithin bounds the wait for a process to come to its fail point.
const reachWithin = 20 * time.Second

type stageFaults struct {
	c     *campaign
	stage string
	rng   *rand.Rand
}

func (c *campaign) stageLane(stage string) *lane {
	s := &stageFaults{c: c, stage: stage, rng: c.random("lane " + stage)}
	l := &lane{c: c, name: stage, rng: s.rng, pauses: [2]time.Duration{time.Second, 5 * time.Second}}
	affects := []string{stage}
	kill := fault{kind: stage + " killed", must: true, affects: affects, run: s.kill}
	zombie := fault{kind: stage + " zombie", must: true, affects: affects, run: s.zombie}
	scale := []fault{
		{kind: stage + " one more, then one less", must: true, affects: affects, run: s.scaleUp},
		{kind: stage + " terminated and started", must: !c.short, affects: affects, run: s.scaleDown},
	}
	var killAt, zombieAt []fault
	for _, point := range points[stage] {
		must := c.duration >= everyPointAfter && !rare[point]
		killAt = append(killAt, fault{kind: stage + " killed at: " + point, whole: stage + " killed at a point", must: must,
			affects: affects, run: func(ctx context.Context) bool { return s.killAt(ctx, point) }})
		zombieAt = append(zombieAt, fault{kind: stage + " zombie at: " + point, whole: stage + " zombie at a point",
			affects: affects, run: func(ctx context.Context) bool { return s.zombieAt(ctx, point) }})
	}
	s.rng.Shuffle(len(killAt), func(i, j int) { killAt[i], killAt[j] = killAt[j], killAt[i] })
	s.rng.Shuffle(len(zombieAt), func(i, j int) { zombieAt[i], zombieAt[j] = zombieAt[j], zombieAt[i] })
	l.first = append(l.first, kill, scale[0])
	if c.short {
		// One sort of zombie for each stage is what the time allows.
		l.first = append(l.first, killAt[0], killAt[1], zombie)
		l.deck = []fault{kill, killAt[2], killAt[3]}
		return l
	}
	l.first = append(l.first, killAt[0], zombie, zombieAt[0])
	l.deck = append(append([]fault{kill, kill, zombie, scale[0], scale[1]}, killAt...), zombieAt[:len(zombieAt)/2]...)
	l.deck = append(l.deck, fault{kind: stage + " replaced while it hangs", must: true, affects: affects, run: s.replaced},
		fault{kind: stage + " hangs as it rejoins", must: c.duration >= everyPointAfter, affects: affects, run: s.rejoining})
	return l
}

// pick is one of the instances.
func (s *stageFaults) pick() *instance {
	all := s.c.instances[s.stage]
	return all[s.rng.IntN(len(all))]
}

func (s *stageFaults) startOver(i *instance, order *failpoint.Order) bool {
	if err := i.start(order); err != nil {
		s.c.problem("%v", err)
		return false
	}
	return true
}

// end kills a process of ours and counts it.
func (s *stageFaults) end(i *instance, p *stageProcess) bool {
	if !i.kill(p) {
		return false
	}
	s.c.ledger.kill()
	return true
}

func (s *stageFaults) kill(ctx context.Context) bool {
	i := s.pick()
	killed := s.end(i, i.current())
	delay.For(ctx, between(s.rng, 0, 2*time.Second))
	return s.startOver(i, nil) && killed
}

// order arms a point: at one of its first comings, sometimes a moment later.
func (s *stageFaults) order(point string, stop bool) *failpoint.Order {
	o := &failpoint.Order{Point: point, Hits: 1 + s.rng.IntN(6), Stop: stop}
	if point == "sink looked up" || point == "sink reattempt" {
		o.Hits = 1
	}
	if s.rng.IntN(3) == 0 {
		o.DelayMicros = 1 + s.rng.IntN(20_000)
	}
	return o
}

func (s *stageFaults) killAt(ctx context.Context, point string) bool {
	i := s.pick()
	s.end(i, i.current())
	order := s.order(point, false)
	if !s.startOver(i, order) {
		return false
	}
	p := i.current()
	limit, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	select {
	case <-p.exited:
	case <-limit.Done():
	}
	if !p.alive() && p.reached() {
		s.c.ledger.kill()
		return s.startOver(i, nil)
	}
	if p.alive() {
		s.end(i, p)
	}
	s.startOver(i, nil)
	return false
}

// members are the group's members that are the process.
func (s *stageFaults) members(ctx context.Context, p *stageProcess) map[string]bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	groups, err := s.c.admin.DescribeGroups(ctx, s.c.group+"-"+s.stage)
	if err != nil {
		return nil
	}
	found := map[string]bool{}
	for _, group := range groups {
		if group.Err != nil {
			return nil
		}
		for _, member := range group.Members {
			if strings.HasPrefix(member.ClientID, p.client+"-") {
				found[member.MemberID] = true
			}
		}
	}
	return found
}

// awaitEviction waits until the group has gone on without the members.
func (s *stageFaults) awaitEviction(ctx context.Context, p *stageProcess, members map[string]bool) bool {
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for delay.For(limit, 300*time.Millisecond) {
		now := s.members(limit, p)
		if now == nil {
			continue
		}
		gone := true
		for member := range members {
			gone = gone && !now[member]
		}
		if gone {
			return true
		}
	}
	return false
}

// haunt lets a stopped process be taken for dead, and wakes it.
func (s *stageFaults) haunt(ctx context.Context, p *stageProcess, members map[string]bool) bool {
	defer func() { _ = syscall.Kill(p.pid, syscall.SIGCONT) }()
	if len(members) == 0 {
		return false
	}
	evicted := s.awaitEviction(ctx, p, members)
	// The new owners have their time with what it left.
	delay.For(ctx, between(s.rng, 200*time.Millisecond, 3*time.Second))
	return evicted
}

func (s *stageFaults) zombie(ctx context.Context) bool {
	i := s.pick()
	p := i.current()
	limit, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	members := s.members(ctx, p)
	for len(members) == 0 && delay.For(limit, 300*time.Millisecond) {
		members = s.members(ctx, p)
	}
	_ = syscall.Kill(p.pid, syscall.SIGSTOP)
	return s.haunt(ctx, p, members)
}

func (s *stageFaults) zombieAt(ctx context.Context, point string) bool {
	i := s.pick()
	s.end(i, i.current())
	if !s.startOver(i, s.order(point, true)) {
		return false
	}
	return s.hauntAtPoint(ctx, i)
}

// hauntAtPoint waits for a process to stop at its point, and haunts it.
func (s *stageFaults) hauntAtPoint(ctx context.Context, i *instance) bool {
	p := i.current()
	limit, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	for !p.reached() || !stopped(p.pid) {
		if !p.alive() || !delay.For(limit, 50*time.Millisecond) {
			s.end(i, p)
			s.startOver(i, nil)
			return false
		}
	}
	return s.haunt(ctx, p, s.members(ctx, p))
}

// rejoining stops a process that has partitions between being told that its
// group rebalances and its request to join again. When it wakes, others have had
// them, and the group knows nothing of it.
func (s *stageFaults) rejoining(ctx context.Context) bool {
	i := s.pick()
	s.end(i, i.current())
	// It comes there once without partitions, as the group makes room for it.
	if !s.startOver(i, &failpoint.Order{Point: "group rejoin", Hits: 2, Stop: true}) {
		return false
	}
	delay.For(ctx, between(s.rng, 3*time.Second, 6*time.Second))
	other := s.c.newInstance(s.stage, 3)
	if !s.startOver(other, nil) {
		return false
	}
	defer s.terminate(other)
	return s.hauntAtPoint(ctx, i)
}

// replaced starts another process of the same name beside one that hangs, as
// when a node is taken for dead, wakes the first and ends it a little later.
func (s *stageFaults) replaced(ctx context.Context) bool {
	i := s.pick()
	p := i.current()
	members := s.members(ctx, p)
	_ = syscall.Kill(p.pid, syscall.SIGSTOP)
	if !s.startOver(i, nil) {
		return false
	}
	woken := s.haunt(ctx, p, members)
	delay.For(ctx, between(s.rng, 300*time.Millisecond, 3*time.Second))
	return s.end(i, p) && woken
}

func (s *stageFaults) scaleUp(ctx context.Context) bool {
	i := s.c.newInstance(s.stage, 3)
	if !s.startOver(i, nil) {
		return false
	}
	delay.For(ctx, between(s.rng, 4*time.Second, 9*time.Second))
	s.terminate(i)
	return true
}

func (s *stageFaults) scaleDown(ctx context.Context) bool {
	i := s.pick()
	s.terminate(i)
	delay.For(ctx, between(s.rng, time.Second, 5*time.Second))
	return s.startOver(i, nil)
}

// openIntents is what a sink says that could not finish its insert in time. It
// says so by its exit code, and leaves the rest to the next owner.
const openIntents = "their intents stay open for the next owner"

func (s *stageFaults) terminate(i *instance) {
	if err := i.terminate(i.current()); err != nil {
		text, _ := os.ReadFile(i.log)
		if said := string(tail(text, 2000)); s.stage != "sink" || !strings.Contains(said, openIntents) {
			s.c.problem("%s on SIGTERM: %v\n%s", i.name, err, said)
		}
	}
}
