package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/auditstream/auditstream/pkg/delay"
)

var everyStage = stages

func (c *campaign) kafkaLane() *lane {
	rng := c.random("lane kafka")
	l := &lane{c: c, name: "kafka", rng: rng, pauses: [2]time.Duration{2 * time.Second, 9 * time.Second}}
	ending := "kafka broker killed"
	if !c.broker.hard() {
		ending = "kafka broker restarted"
	}
	end := fault{kind: ending, must: true, affects: everyStage, run: func(ctx context.Context) bool { return c.endBroker(ctx, rng) }}
	network := c.networkFaults("kafka", c.kafkaProxy, rng, everyStage)
	hang := fault{kind: "kafka broker hangs", must: !c.short, affects: everyStage, run: func(ctx context.Context) bool {
		if err := c.broker.signal(syscall.SIGSTOP); err != nil {
			c.problem("stop the broker: %v", err)
			return false
		}
		delay.For(ctx, between(rng, 2*time.Second, 6*time.Second))
		return c.broker.signal(syscall.SIGCONT) == nil
	}}
	l.first = append(network, end)
	l.deck = append(append(append([]fault{end, hang}, network...), network...), network...)
	if c.short {
		l.deck = network
	}
	return l
}

func (c *campaign) endBroker(ctx context.Context, rng *rand.Rand) bool {
	if err := c.broker.breakDown(); err != nil {
		c.problem("%v", err)
		return false
	}
	if c.broker.hard() {
		c.ledger.kill()
	}
	delay.For(ctx, between(rng, 0, 3*time.Second))
	starting, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	if err := c.broker.restart(starting); err != nil {
		c.problem("%v", err)
		return false
	}
	return true
}

// networkFaults are what a proxy can do to the connections to a server.
func (c *campaign) networkFaults(server string, p *proxy, rng *rand.Rand, affects []string) []fault {
	return []fault{
		{kind: server + " connections cut", must: true, affects: affects, run: func(context.Context) bool {
			return p.cut(rng, 0.3+0.7*rng.Float64()) > 0
		}},
		{kind: server + " out of reach", must: true, affects: affects, run: func(ctx context.Context) bool {
			p.refuse(true)
			defer p.refuse(false)
			cut := p.cut(rng, 1)
			delay.For(ctx, between(rng, time.Second, 5*time.Second))
			return cut > 0
		}},
		{kind: server + " slow", must: true, affects: affects, run: func(ctx context.Context) bool {
			slowed := p.slow(between(rng, 5*time.Millisecond, 150*time.Millisecond))
			defer p.slow(0)
			delay.For(ctx, between(rng, 2*time.Second, 5*time.Second))
			return slowed > 0
		}},
		{kind: server + " replies lost", must: true, affects: affects, run: func(ctx context.Context) bool {
			lost := 0
			for tries := 0; tries < 4 && lost == 0; tries++ {
				deaf := p.deafen(rng, 0.3+0.7*rng.Float64())
				rested := delay.For(ctx, between(rng, 500*time.Millisecond, 5*time.Second))
				if lost = lostReplies(deaf); !rested {
					break
				}
			}
			return lost > 0
		}},
	}
}

func (c *campaign) s3Lane() *lane {
	rng := c.random("lane s3")
	l := &lane{c: c, name: "s3", rng: rng, pauses: [2]time.Duration{2 * time.Second, 8 * time.Second}}
	for fault3, kind := range map[s3Fault]string{
		s3Unavailable: "s3 answers 503", s3Truncates: "s3 truncates", s3Short: "s3 gives less than there is",
		s3Resets: "s3 resets in mid-body", s3Stalls: "s3 stalls in mid-body",
	} {
		l.first = append(l.first, fault{kind: kind, must: true, affects: []string{"fetcher"}, run: func(ctx context.Context) bool {
			before := c.s3Proxy.fired[fault3].Load()
			c.s3Proxy.set(fault3, 0.3+0.6*rng.Float64())
			defer c.s3Proxy.set(s3Well, 0)
			delay.For(ctx, between(rng, 3*time.Second, 7*time.Second))
			for n := 0; c.s3Proxy.fired[fault3].Load() == before && n < 20 && delay.For(ctx, 500*time.Millisecond); n++ {
				continue
			}
			return c.s3Proxy.fired[fault3].Load() > before
		}})
	}
	// A map has no order, and a seed is to give one.
	sortFaults(l.first)
	l.deck = append(l.deck, l.first...)
	return l
}

func (c *campaign) tableLane() *lane {
	rng := c.random("lane clickhouse")
	l := &lane{c: c, name: "clickhouse", rng: rng, pauses: [2]time.Duration{time.Second, 6 * time.Second}}
	sink := []string{"sink"}
	kill := fault{kind: "clickhouse killed", must: true, affects: sink, run: c.killEngine}
	hang := fault{kind: "clickhouse hangs", must: true, affects: sink, run: func(ctx context.Context) bool {
		pid := c.engine.PID()
		if pid == 0 || syscall.Kill(pid, syscall.SIGSTOP) != nil {
			return false
		}
		defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
		// Longer than an insert is waited for: it lands when nobody waits any more.
		return delay.For(ctx, insertTimeout+between(rng, 500*time.Millisecond, 3*time.Second))
	}}
	network := c.networkFaults("clickhouse", c.tableProxy, rng, sink)
	refusals := c.refusals(rng)
	l.first = append(append(append(l.first, kill, hang), network...), refusals...)
	l.deck = append(append(append(append(l.deck, kill, kill, kill, hang), network...), network...), refusals...)
	if c.short {
		l.pauses = [2]time.Duration{200 * time.Millisecond, time.Second}
	}
	return l
}

func (c *campaign) killEngine(ctx context.Context) bool {
	if err := c.engine.Kill(); err != nil {
		return false
	}
	c.ledger.kill()
	waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := c.engine.WaitReady(waiting); err != nil {
		c.problem("the engine did not come back: %v", err)
		return false
	}
	return true
}

// refusal is a state of the table in which inserts fail.
type refusal struct {
	kind       string
	does, undo []string
	code       int32 // of the error that inserts get; 0: they take too long
}

func (c *campaign) refusals(rng *rand.Rand) []fault {
	alter := "ALTER TABLE " + tableName + " "
	list := []refusal{
		{kind: "inserts refused: memory limit", code: 241,
			// What it checks with does not fit into the server's memory.
			does: []string{alter + "ADD CONSTRAINT chaos CHECK length(range(499000000)) = 1"},
			undo: []string{alter + "DROP CONSTRAINT IF EXISTS chaos"}},
		{kind: "inserts refused: too many parts", code: 252,
			does: []string{alter + "MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1"},
			undo: []string{alter + "MODIFY SETTING " + manyParts}},
		{kind: "inserts refused: read-only", code: 774,
			does: []string{alter + "MODIFY SETTING table_readonly = 1"},
			undo: []string{alter + "MODIFY SETTING table_readonly = 0"}},
		{kind: "inserts refused: constraint", code: 469,
			does: []string{alter + "ADD CONSTRAINT chaos CHECK length(id) = 0"},
			undo: []string{alter + "DROP CONSTRAINT IF EXISTS chaos"}},
		{kind: "inserts fail after the rows are in", code: 395,
			does: []string{"CREATE MATERIALIZED VIEW IF NOT EXISTS chaos ENGINE = Null AS SELECT throwIf(length(id) > 0, 'chaos') AS x FROM " + tableName},
			undo: []string{"DROP VIEW IF EXISTS chaos"}},
		{kind: "inserts take longer than they may",
			does: []string{alter + "ADD CONSTRAINT chaos1 CHECK sleep(2.5) = 0", alter + "ADD CONSTRAINT chaos2 CHECK sleep(2.4) = 0"},
			undo: []string{alter + "DROP CONSTRAINT IF EXISTS chaos1", alter + "DROP CONSTRAINT IF EXISTS chaos2"}},
	}
	var faults []fault
	for _, r := range list {
		faults = append(faults, fault{kind: r.kind, must: true, affects: []string{"sink"}, run: func(ctx context.Context) bool {
			return c.refuse(ctx, rng, r)
		}})
	}
	return faults
}

func (c *campaign) refuse(ctx context.Context, rng *rand.Rand, r refusal) bool {
	before := c.errorsOf(ctx, r.code)
	for _, statement := range r.does {
		if !c.alter(ctx, statement) {
			break
		}
	}
	hold := between(rng, 2500*time.Millisecond, 5*time.Second)
	if r.code == 0 {
		hold += insertTimeout
	}
	fired := false
	limit := time.Now().Add(hold + 10*time.Second)
	for until := time.Now().Add(hold); (time.Now().Before(until) || !fired && time.Now().Before(limit)) && delay.For(ctx, 200*time.Millisecond); {
		if r.code == 0 {
			fired = fired || c.slowest(ctx) > insertTimeout.Seconds()
		} else {
			fired = fired || c.errorsOf(ctx, r.code) > before
		}
	}
	for _, statement := range r.undo {
		if !c.alter(context.WithoutCancel(ctx), statement) {
			c.problem("could not mend the table: %s", statement)
		}
	}
	return fired
}

// alter tries for a while: inserts under way hold the table.
func (c *campaign) alter(ctx context.Context, statement string) bool {
	for range 20 {
		limit, cancel := context.WithTimeout(ctx, 15*time.Second)
		err := c.table.Exec(limit, statement)
		cancel()
		if err == nil {
			return true
		}
		c.note(fmt.Sprintf("%s: %v", statement, err))
		if !delay.For(ctx, 300*time.Millisecond) {
			return false
		}
	}
	return false
}

// errorsOf is how often the server has given an error since it started.
func (c *campaign) errorsOf(ctx context.Context, code int32) uint64 {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var count uint64
	if err := c.table.QueryRow(ctx, fmt.Sprintf("SELECT sum(value) FROM system.errors WHERE code = %d", code)).Scan(&count); err != nil {
		return 0
	}
	return count
}

// slowest is for how many seconds the longest insert has run.
func (c *campaign) slowest(ctx context.Context) float64 {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var seconds float64
	if err := c.table.QueryRow(ctx, "SELECT max(elapsed) FROM system.processes WHERE query_kind = 'Insert'").Scan(&seconds); err != nil {
		return 0
	}
	return seconds
}
