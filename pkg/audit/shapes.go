package audit

import (
	"bytes"
)

// settle gives the parsed record of a level its outcomes. raw is what the row
// keeps as rawLog, or nil for the event's own bytes; part is what a dead letter
// keeps.
func (n *Normalizer) settle(level int, raw, part []byte) {
	if why, settled := n.resolve(level, raw, part); !settled {
		n.reject(why, part)
	}
}

// resolve finds the event, or the events, that the parsed record of a level is
// or holds. When there is none it says why.
func (n *Normalizer) resolve(level int, raw, part []byte) (why verdict, settled bool) {
	r := n.levels[level]
	if r.e.isAuditEvent() {
		if n.repeated += n.carried; n.repeated > maxRepeated {
			return verdict{UnsupportedFormat, "what is around the list is too large to repeat for each event"}, false
		}
		if raw == nil {
			raw = bytes.TrimSpace(r.s.data)
		}
		n.emitRow(level, raw)
		return verdict{}, true
	}
	if n.takeLists(level) {
		return verdict{}, true
	}
	if level+1 == maxLevels {
		return verdict{NotAuditEvent, "wrapped too often"}, false
	}
	why = r.verdict()
	for _, candidates := range [...]struct {
		values []embedded
		names  []string
	}{{r.w.configured, n.source.EventKeys}, {r.w.embedded[:], embeddedNames[:]}} {
		for i, candidate := range candidates.values {
			if candidate.kind == 0 {
				continue
			}
			n.steps[level+1] = step{candidates.names[i], -1}
			inner, settled := n.open(level+1, candidate, raw, part)
			if settled {
				return verdict{}, true
			}
			why = why.orWorse(inner)
		}
	}
	return why, false
}

// open looks for an event inside a value of the record one level up.
func (n *Normalizer) open(level int, value embedded, raw, part []byte) (why verdict, settled bool) {
	data := bytes.TrimPrefix(value.text, byteOrderMark)
	start := skipSpace(data, 0)
	if start == len(data) {
		return verdict{NotAuditEvent, "empty text"}, false
	}
	piece := n.levels[level-1].w.piece
	var before prefix
	if data[start] != '{' {
		var rest []byte
		var found bool
		if before, rest, found = cutPrefix(data[start:]); !found {
			return n.openOther(level, data, start, piece, raw, part)
		}
		data, start = rest, skipSpace(rest, 0)
		if before.piece != pieceUnknown {
			piece = before.piece
		}
	}
	r := n.parse(level, data, start)
	before.fill(&r.w)
	if r.s.fault == faultNone {
		if r.s.space(); r.s.pos < len(data) {
			r.s.fail(faultSyntax, r.s.pos)
		}
	}
	if r.s.fault != faultNone {
		return textVerdict(data, piece, &r.s), false
	}
	return n.resolve(level, raw, part)
}

// openOther looks into a text that is no object: JSON encoded twice, a list, or
// no JSON at all.
func (n *Normalizer) openOther(level int, data []byte, start int, piece piece, raw, part []byte) (verdict, bool) {
	s := &n.lists[level]
	s.reset(data, &n.arena)
	s.pos = start
	value := s.raw()
	if s.fault == faultNone {
		if s.space(); s.pos < len(data) {
			s.fail(faultSyntax, s.pos)
		}
	}
	switch {
	case s.fault != faultNone:
		return messageVerdict(data, piece, s), false
	case value[0] == '"':
		n.levels[level].reset(nil, &n.arena, len(n.source.EventKeys))
		n.levels[level].w.embedded[inLog] = embedded{text: n.arena.unescape(value[1 : len(value)-1]), kind: '"'}
		n.levels[level].w.piece = piece
		return n.resolve(level, raw, part)
	case value[0] == '[' && level+1 < maxLevels:
		n.list(level, n.steps[level].name, value, nil)
		return verdict{}, true
	}
	return verdict{NotAuditEvent, "JSON, but no object"}, false
}

// sequence reads a line that is not one object: several values back to back
// (Firehose puts no line ends between what it writes), an array, a string.
func (n *Normalizer) sequence(data []byte) {
	s := &n.outer
	s.reset(data, &n.arena)
	count := 0
	for s.space(); s.pos < len(data); s.space() {
		if count++; count > 1 && s.peek() != '{' && s.peek() != '[' {
			s.failHere()
			break
		}
		s.skip()
	}
	if s.fault != faultNone {
		n.reject(textVerdict(data, pieceUnknown, s), n.line.Bytes)
		return
	}
	s.reset(data, &n.arena)
	for s.space(); s.pos < len(data); s.space() {
		value := s.raw()
		raw := value
		n.steps[0] = step{}
		if count == 1 {
			raw = n.line.Bytes
		}
		n.value(value, raw)
	}
}

// value settles one value of a sequence.
func (n *Normalizer) value(value, raw []byte) {
	if value[0] != '[' {
		n.element(0, value, raw)
		return
	}
	if date, rest, found := datedRecord(value); found {
		r := n.parse(0, rest, 0)
		orElse(&r.w.date, date)
		n.settle(0, raw, raw)
		return
	}
	n.list(0, "", value, wholeElement)
}

// wholeElement makes rawLog the list's element instead of the event's own bytes.
var wholeElement = []byte{}

// list settles each element of an array at the given level.
func (n *Normalizer) list(level int, name string, array, raw []byte) {
	s := &n.lists[level]
	s.reset(array, &n.arena)
	around := n.carried
	n.carried = n.outside(level)
	elements := 0
	if array[0] == '[' {
		for more := s.enter(']'); more; more = s.next(']') {
			n.steps[level] = step{name, elements}
			elements++
			element := s.raw()
			rawLog := raw
			if raw != nil {
				rawLog = element
			}
			n.listed(level, element, rawLog)
		}
	}
	n.carried = around
	if elements == 0 {
		n.skip(SkipEmptyList)
	}
}

// maxRepeated bounds what the wrapper of a list adds to the rows of it, all
// together: with a wrapper of half the line's size this would grow by the square
// of the line. Real wrappers come to a thousandth of it.
const maxRepeated = 64 << 20

// outside is the size of what the levels outside of the given one give to each
// row.
func (n *Normalizer) outside(level int) (size int) {
	for l := range level {
		size += n.levels[l].w.size()
	}
	return size
}

// listed settles one element of a list. What it needed of the arena is free
// again, unless a dead letter may be part of it.
func (n *Normalizer) listed(level int, element, raw []byte) {
	mark, rejected := len(n.arena.buf), len(n.result.Rejections)
	n.element(level, element, raw)
	if len(n.result.Rejections) == rejected {
		n.arena.buf = n.arena.buf[:mark]
	}
}

// element settles one valid JSON value at the given level.
func (n *Normalizer) element(level int, element, raw []byte) {
	part := element
	if level == 0 && raw != nil {
		part = raw
	}
	switch element[0] {
	case '{':
		n.parse(level, element, 0)
		n.settle(level, raw, part)
	case '"':
		r := n.levels[level]
		r.reset(element, &n.arena, len(n.source.EventKeys))
		r.w.embedded[inLog] = embedded{text: n.arena.unescape(element[1 : len(element)-1]), kind: '"'}
		n.settle(level, raw, part)
	default:
		n.reject(verdict{NotAuditEvent, "JSON, but no object"}, part)
	}
}

// takeLists settles the lists that a record holds and says whether it did.
func (n *Normalizer) takeLists(level int) bool {
	r := n.levels[level]
	w := &r.w
	if w.messageType == "CONTROL_MESSAGE" && w.logEvents != nil {
		n.skip(SkipControlMessage)
		return true
	}
	if level+2 >= maxLevels {
		return false
	}
	switch {
	case w.logEvents != nil && (w.messageType != "" || w.logGroup != ""):
		n.list(level+1, "logEvents", w.logEvents, nil)
	case w.items != nil && n.isEventList(level):
		n.list(level+1, "items", w.items, nil)
	case isArray(w.records):
		n.list(level+1, "records", w.records, nil)
	case isArray(w.resourceLogs):
		n.resourceLogs(level + 1)
	default:
		return false
	}
	return true
}

func isArray(value []byte) bool { return len(value) > 0 && value[0] == '[' }

// isEventList says whether `items` are audit events: by the list's kind, and
// without one by whether an item is an event.
func (n *Normalizer) isEventList(level int) bool {
	r := n.levels[level]
	if r.e.kind == "EventList" {
		return r.e.apiVersion == "" || hasPrefix(r.e.apiVersion, "audit.k8s.io/")
	}
	if r.e.kind != "" || !isArray(r.w.items) {
		return false
	}
	s := &n.lists[level+1]
	s.reset(r.w.items, &n.arena)
	mark := len(n.arena.buf)
	for more := s.enter(']'); more; more = s.next(']') {
		if item := s.raw(); item[0] == '{' && n.parse(level+1, item, 0).e.isAuditEvent() {
			return true
		}
		n.arena.buf = n.arena.buf[:mark]
	}
	return false
}

// resourceLogs settles the log records of OTLP: resourceLogs, scopeLogs in
// each, logRecords in each.
func (n *Normalizer) resourceLogs(level int) {
	s := &n.lists[level]
	s.reset(n.levels[level-1].w.resourceLogs, &n.arena)
	around := n.carried
	n.carried = n.outside(level)
	before := n.position
	eachObject(s, func() {
		eachMember(s, "scopeLogs", "instrumentationLibraryLogs", func() {
			eachObject(s, func() {
				eachMember(s, "logRecords", "logs", func() {
					if s.peek() != '[' {
						s.skip()
						return
					}
					for more := s.enter(']'); more; more = s.next(']') {
						n.steps[level] = step{"logRecords", n.position - before}
						n.listed(level, s.raw(), nil)
					}
				})
			})
		})
	})
	n.carried = around
	if n.position == before {
		n.skip(SkipEmptyList)
	}
}

// eachObject calls visit at every object of the array at pos.
func eachObject(s *scanner, visit func()) {
	if s.peek() != '[' {
		s.skip()
		return
	}
	for more := s.enter(']'); more; more = s.next(']') {
		if s.peek() != '{' {
			s.skip()
			continue
		}
		visit()
	}
}

// eachMember calls visit at the value of every member with one of two names.
func eachMember(s *scanner, name, older string, visit func()) {
	for more := s.enter('}'); more; more = s.next('}') {
		if key := s.key(); key == name || key == older {
			visit()
			continue
		}
		s.skip()
	}
}

// datedRecord takes apart Fluent Bit's own form of a record, [time, {…}].
func datedRecord(array []byte) (date string, object []byte, found bool) {
	start := skipSpace(array, 1)
	if c := array[start]; c != '-' && c-'0' > 9 {
		return "", nil, false
	}
	end, _ := scanNumber(array, start)
	i := skipSpace(array, end)
	if array[i] != ',' {
		return "", nil, false
	}
	if i = skipSpace(array, i+1); array[i] != '{' {
		return "", nil, false
	}
	object = array[i:]
	var s scanner
	s.reset(object, nil)
	s.skip()
	if s.space(); object[s.pos] != ']' {
		return "", nil, false // a list that begins with a number
	}
	return view(array[start:end]), object, true
}
