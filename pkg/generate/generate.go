// Package generate makes realistic Kubernetes audit logs out of a seed: what a
// busy cluster's API server would write, as lines and as gzip objects, and small
// GeoIP databases that know the addresses in them. It stands before the intake:
// the demo, the tests and the benchmarks put what it makes into a bucket.
//
// The same options give the same bytes, on every machine. Nothing in it is real:
// names are made up and public addresses are from the ranges reserved for
// documentation.
package generate

import (
	"container/heap"
	"errors"
	"fmt"
	"math"
	"time"
)

// Shape is what a shipper puts around an event.
type Shape uint8

// The shapes: the API server's own line, and Fluent Bit's two (the event's keys
// merged into the record, or the event as a string under `log`).
const (
	Bare Shape = iota
	Merged
	LogString
	Mixed // one of the others, chosen for every line
)

// Kind is what should become of a line.
type Kind uint8

// Every line is one of these.
const (
	Event Kind = iota // one row
	Bad               // a dead letter
	Blank             // nothing; it is skipped
)

// Options of a Generator.
type Options struct {
	Seed  uint64
	Start time.Time     // of the log; zero: DefaultStart
	Every time.Duration // between two requests on average; zero: 500 ms
	Shape Shape
	// BadShare is the share of lines that are no events: cut-off JSON, klog text,
	// other JSON, and blank lines. 0 to 0.5.
	BadShare float64
}

// DefaultStart is when a log begins that isn't told otherwise.
var DefaultStart = time.Date(2026, time.January, 5, 8, 0, 0, 0, time.UTC)

// Generator makes one log, line after line, in the order of stageTimestamp. It
// simulates the API server: requests arrive, some are logged at several stages,
// watches are logged again when they end. Not for concurrent use.
type Generator struct {
	random    random
	cluster   *cluster
	scenarios [scenarioSlots]func(*Generator, *request)
	shape     Shape
	badShare  int // of a million

	every   int64 // µs
	arrival int64 // µs since 1970: when the next request arrives
	pending stageHeap
	order   uint64
	version uint64 // the cluster's resourceVersion
	free    []*request

	scratch, line []byte
}

// New makes a Generator. It fails on options that make no sense.
func New(options Options) (*Generator, error) {
	if options.BadShare < 0 || options.BadShare > 0.5 || math.IsNaN(options.BadShare) {
		return nil, fmt.Errorf("generate: share of bad lines %v: want 0 to 0.5", options.BadShare)
	}
	if options.Every < 0 || options.Every > time.Hour {
		return nil, fmt.Errorf("generate: a request every %s: want up to an hour", options.Every)
	}
	if options.Shape > Mixed {
		return nil, errors.New("generate: unknown shape")
	}
	if options.Start.IsZero() {
		options.Start = DefaultStart
	}
	if options.Every == 0 {
		options.Every = 500 * time.Millisecond
	}
	g := &Generator{
		random:   newRandom(options.Seed),
		shape:    options.Shape,
		badShare: int(math.Round(options.BadShare * 1e6)),
		every:    max(options.Every.Microseconds(), 1),
		arrival:  options.Start.UnixMicro(),
		version:  48_201_337,
	}
	g.cluster = newCluster(&g.random)
	g.scenarios = scenarioTable()
	return g, nil
}

// SetShape changes the shape of the lines to come: a shipper writes one shape
// into an object, and another shipper another.
func (g *Generator) SetShape(shape Shape) { g.shape = shape }

// Now is the time in the log: that of the last line, roughly.
func (g *Generator) Now() time.Time { return time.UnixMicro(g.arrival).UTC() }

// AppendLine appends the next line to dst, without a line end.
func (g *Generator) AppendLine(dst []byte) ([]byte, Kind) {
	if g.badShare > 0 && g.random.below(1e6) < g.badShare {
		return g.appendBadLine(dst)
	}
	return g.appendEventLine(dst), Event
}

func (g *Generator) appendEventLine(dst []byte) []byte {
	// A request that arrives before the earliest stage under way is logged may be
	// logged before it as well.
	for len(g.pending) == 0 || g.arrival <= g.pending[0].at {
		g.arrive()
	}
	next, _ := heap.Pop(&g.pending).(stageDue)
	dst = g.appendShaped(dst, next)
	if next.last {
		g.free = append(g.free, next.request)
	}
	return dst
}

// arrive lets the next request arrive and plans the stages it is logged at.
func (g *Generator) arrive() {
	var q *request
	if last := len(g.free) - 1; last >= 0 {
		q, g.free = g.free[last], g.free[:last]
	} else {
		q = new(request)
	}
	*q = request{received: g.arrival, code: 200, level: levelMetadata}
	g.arrival += 1 + int64(g.random.below(int(2*g.every)))
	g.version += uint64(1 + g.random.below(5))
	q.version = g.version
	q.mix = g.random.next()
	g.random.fill(q.auditID[:])
	g.scenarios[g.random.below(scenarioSlots)](g, q)
	if q.latency == 0 {
		q.latency = g.latency(q.verb)
	}

	plan := func(stage string, at int64, last bool) {
		g.order++
		heap.Push(&g.pending, stageDue{at: at, order: g.order, stage: stage, request: q, last: last})
	}
	if q.logReceived {
		plan(stageRequestReceived, q.received, false)
	}
	if q.logStarted {
		plan(stageResponseStarted, q.received+1+q.mix2(4000), false)
	}
	final := stageResponseComplete
	if q.panics {
		final = stagePanic
	}
	plan(final, q.received+q.latency, true)
}

// latency of a request in µs: most are answered in milliseconds, few take long.
func (g *Generator) latency(verb string) int64 {
	base := 900
	switch verb {
	case "create", "update", "patch", "delete":
		base = 4500
	case "list", "deletecollection":
		base = 7000
	}
	micros := base/2 + g.random.below(2*base)
	if g.random.below(100) == 0 {
		micros *= 5 + g.random.below(60)
	}
	return int64(micros)
}

// stageDue is a stage of a request that is yet to be logged.
type stageDue struct {
	at      int64
	order   uint64 // of equal times, the one planned first
	stage   string
	request *request
	last    bool
}

type stageHeap []stageDue

func (h stageHeap) Len() int { return len(h) }
func (h stageHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].order < h[j].order
}
func (h stageHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *stageHeap) Push(x any) {
	due, _ := x.(stageDue) // nothing else is pushed
	*h = append(*h, due)
}
func (h *stageHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
