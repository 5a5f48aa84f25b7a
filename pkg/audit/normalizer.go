// Package audit turns one raw line of a Kubernetes audit log into rows: the
// pure middle of the flow, between the topics `raw` and `normalized`, with no
// I/O of its own. It knows the shapes that shippers give to audit logs and what
// each of the 69 columns holds.
//
// A line is read once by a strict scanner of its own; texts point into the line
// wherever they need no unescaping, and everything else goes to buffers that
// are used again for the next line. So in the steady state a line costs no
// allocation, and a row lives only as long as the call that hands it out.
package audit

import (
	"bytes"
	"net/netip"

	"github.com/auditstream/auditstream/pkg/event"
)

// Source is what the configuration says about where lines come from.
type Source struct {
	WorkspaceID, ID, Type string
	TTLDays               uint32
	Tags                  event.Map
	APIServerIP           netip.Addr     // of the columns dstIP and dst…; may be invalid
	TrustedProxies        []netip.Prefix // never taken for the client
	EventKeys             []string       // further keys that hold an event, before the known ones
}

// Line is one raw record.
type Line struct {
	Bytes      []byte // without its line end
	ObjectID   string
	Number     int64 // of the physical line in its object, from 1
	ReceivedAt int64 // milliseconds since 1970
	// Of a line that is done again: which of its events are meant. All are numbered
	// as ever; those that are not meant leave no trace.
	Extent event.Extent
	Event  int
}

// Locator says where an address is.
type Locator interface {
	// Locate fills everything of into but IP, and returns what makes the address
	// anonymous (vpn, tor, …, with commas), or "". What it returns must stay
	// valid for as long as the row.
	Locate(addr netip.Addr, into *event.Endpoint) (anonymous string)
}

// Normalizer turns lines into rows. It keeps buffers, so each goroutine has its
// own.
type Normalizer struct {
	locator Locator

	source   *Source
	line     Line
	emit     func(*event.Row)
	result   Result
	position int // of the next outcome in the line: the event's number in its row id

	carried  int // what the levels around a list give to each row of it
	repeated int // the sum of carried over the line's rows

	steps [maxLevels]step // how each level was come to from the one around it
	at    int             // the level of the row at hand

	arena  arena
	levels [maxLevels]*record // of the wrapping: 0 is the line, each further one inside
	lists  [maxLevels]scanner // of the elements at each level
	outer  scanner            // of the values of a line
	row    event.Row
	id     []byte
}

// maxLevels bounds how often events are wrapped: a list in a container's log in
// a shipper's record is four.
const maxLevels = 6

// step is the way from a level to the next one inside: a member, or an element
// of the list in a member.
type step struct {
	name  string
	index int // -1 for a member
}

// record is one JSON object, read as an event and as what wraps one: shippers
// also put the event's members beside their own.
type record struct {
	s scanner
	e auditEvent
	w wrapper
}

// NewNormalizer returns a normalizer; locator may be nil.
func NewNormalizer(locator Locator) *Normalizer {
	n := &Normalizer{locator: locator}
	for i := range n.levels {
		n.levels[i] = new(record)
	}
	return n
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// Normalize calls emit for each event of the line, in the line's order. The row
// and everything in it are valid only during the call of emit.
//
// A line that is not JSON as a whole gives no row: it is one rejection.
func (n *Normalizer) Normalize(source *Source, line Line, emit func(*event.Row)) Result {
	n.source, n.line, n.emit = source, line, emit
	n.result = Result{Rejections: n.result.Rejections[:0], Skips: n.result.Skips[:0]}
	n.position, n.carried, n.repeated = 0, 0, 0
	if line.Extent == event.PartOfLine {
		n.position = line.Event
	}
	n.arena.reset()

	data := bytes.TrimPrefix(line.Bytes, byteOrderMark)
	if start := skipSpace(data, 0); start == len(data) {
		n.skip(SkipBlank)
	} else {
		n.take(data, start)
	}
	if len(line.Bytes) > largeLine {
		n.release()
	}
	n.source, n.line, n.emit = nil, Line{}, nil
	return n.result
}

// largeLine is a line after which the buffers are not kept: they have its size,
// and point into it.
const largeLine = 1 << 20

func (n *Normalizer) release() {
	n.arena, n.row, n.outer = arena{}, event.Row{}, scanner{}
	for i := range n.levels {
		n.levels[i], n.lists[i] = new(record), scanner{}
	}
}

// take reads the line's one object on the fast path, and leaves everything else
// to sequence.
func (n *Normalizer) take(data []byte, start int) {
	var before prefix
	if data[start] != '{' {
		var rest []byte
		var found bool
		if before, rest, found = cutPrefix(data[start:]); !found {
			n.sequence(data)
			return
		}
		data, start = rest, skipSpace(rest, 0)
	}
	n.steps[0] = step{}
	r := n.parse(0, data, start)
	switch {
	case r.s.fault != faultNone:
		n.reject(textVerdict(data, before.piece, &r.s), n.line.Bytes)
	case skipSpace(data, r.s.pos) == len(data):
		before.fill(&r.w)
		n.settle(0, n.line.Bytes, n.line.Bytes)
	default:
		n.sequence(data)
	}
}

// parse reads the object that starts at start into the record of a level.
func (n *Normalizer) parse(level int, data []byte, start int) *record {
	r := n.levels[level]
	r.reset(data, &n.arena, len(n.source.EventKeys))
	s := &r.s
	s.pos = start
	for more := s.enter('}'); more; more = s.next('}') {
		key := s.key()
		if !r.e.member(s, key) && !r.w.member(s, key, n.source.EventKeys) {
			s.skip()
		}
	}
	return r
}

func (r *record) reset(data []byte, arena *arena, configured int) {
	r.s.reset(data, arena)
	r.e.reset()
	r.w.reset(configured)
}

func (n *Normalizer) skip(reason Skip) {
	for i := range n.result.Skips {
		if n.result.Skips[i].Reason == reason {
			n.result.Skips[i].Count++
			return
		}
	}
	n.result.Skips = append(n.result.Skips, Skipped{Reason: reason, Count: 1})
}

// maxRejections bounds the dead letters of one line's items. A line can hold
// millions of them; it is itself the last one then, so nothing of it is lost.
const maxRejections = 10_000

func (n *Normalizer) reject(why verdict, part []byte) {
	if !n.line.Extent.Wants(n.position, n.line.Event) {
		n.position++
		return
	}
	switch count := len(n.result.Rejections); {
	case count == maxRejections:
		why.detail, part = "the line as a whole: too many of its items are no events", n.line.Bytes
		fallthrough
	case count < maxRejections:
		n.result.Rejections = append(n.result.Rejections, Rejection{
			Reason: why.reason, Detail: why.detail, Part: part, Event: n.position,
		})
	}
	n.position++
}
