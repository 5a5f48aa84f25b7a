package split

import (
	"bytes"
	"io"

	"github.com/auditstream/auditstream/topics"
)

// valueReader splits a stream into JSON values; topics.SplitValues says which.
// White space and commas between values are passed over, wherever they are.
//
// A value that is no JSON ends at the next line end, or where after a '}' an
// object begins: what is broken is one line, for the enricher to reject, and
// what comes after it is not lost. Memory is bounded as in lineReader.
type valueReader struct {
	window
	limit int

	phase  phase
	inside topics.Inside
	mark   bool // a byte order mark may come
	scan   scan

	passed  int64 // bytes since the last line given that belong to no value
	scanned int   // bytes of the value that is waiting already looked at
	last    byte  // of a broken value, the last byte that is no white space

	long    line // the value being passed over, when skipping
	skipped bool
}

type phase uint8

const (
	betweenValues phase = iota
	inValue
	inBroken
	inRest // of an object whose list has ended
)

// newValueReader reads from a place between two values.
func newValueReader(from window, limit int, inside topics.Inside, atStart bool) *valueReader {
	return &valueReader{window: from, limit: limit, inside: inside, mark: atStart}
}

// next gives the next value, as lineReader.next gives lines.
func (r *valueReader) next(allowance int64) (line, error) {
	for read := int64(0); ; {
		if l, found := r.take(); found {
			return l, nil
		}
		if r.err != nil {
			return r.atEnd()
		}
		if read > allowance {
			return line{}, errPaused
		}
		n, paused := r.fill(r.limit)
		if paused {
			return line{}, errPaused
		}
		read += int64(n)
	}
}

// take gives the value that is complete in the buffer, if there is one.
func (r *valueReader) take() (line, bool) {
	for {
		data := r.waiting()
		switch r.phase {
		case betweenValues:
			if !r.approach(data) {
				return line{}, false
			}
		case inRest:
			n, v := r.scan.feed(data)
			r.pass(n)
			if v == wantMore {
				return line{}, false
			}
			r.phase, r.inside = betweenValues, topics.InsideNothing
		case inValue:
			n, v := r.scan.feed(data[r.scanned:])
			r.scanned += n
			switch v {
			case complete:
				return r.give(r.scanned, r.scanned), true
			case broken:
				r.phase, r.last = inBroken, r.scan.last
			case wantMore:
				r.skipLong(data)
				return line{}, false
			}
		case inBroken:
			text, size := r.endOfBroken(data)
			if size < 0 {
				r.skipLong(data)
				return line{}, false
			}
			return r.give(text, size), true
		}
	}
}

// approach passes over what is before a value, and begins it. It tells whether
// it could do something with the bytes there are.
func (r *valueReader) approach(data []byte) bool {
	if r.mark {
		if len(data) < len(byteOrderMark) && bytes.HasPrefix(byteOrderMark, data) && r.err == nil {
			return false
		}
		r.mark = false
		if bytes.HasPrefix(data, byteOrderMark) {
			r.pass(len(byteOrderMark))
			return true
		}
	}
	at := 0
	for at < len(data) && (isSpace(data[at]) || data[at] == ',') {
		at++
	}
	r.pass(at)
	if data = data[at:]; len(data) == 0 {
		return false
	}
	switch {
	case data[0] == ']' && r.inside == topics.InsideList:
		r.pass(1)
		r.inside = topics.InsideNothing
		return true
	case data[0] == ']' && r.inside == topics.InsideRecords:
		r.scan.enterObject()
		r.phase = inRest
		return true
	case r.inside == topics.InsideNothing:
		inside, elements, more := entrance(data)
		if more && r.err == nil {
			return false
		}
		if inside != topics.InsideNothing {
			r.pass(elements)
			r.inside = inside
			return true
		}
		if c := data[0]; c != '{' && c != '[' && c != '"' {
			r.phase, r.scanned, r.last = inBroken, 0, 0
			return true
		}
	}
	r.scan.begin()
	r.phase, r.scanned = inValue, 0
	return true
}

// pass leaves out bytes that belong to no value.
func (r *valueReader) pass(n int) {
	r.start += n
	r.passed += int64(n)
}

// endOfBroken looks for where a broken value ends: how long its text is, and
// how many bytes go with it, below zero when that isn't known yet.
func (r *valueReader) endOfBroken(data []byte) (text, size int) {
	for ; r.scanned < len(data); r.scanned++ {
		switch c := data[r.scanned]; {
		case c == '\n':
			return r.scanned, r.scanned + 1
		case c == '{' && r.last == '}':
			return r.scanned, r.scanned
		case !isSpace(c) && c != ',':
			r.last = c
		}
	}
	return 0, -1
}

// give ends the value with the first bytes that are waiting: text of them are
// the value itself.
func (r *valueReader) give(text, size int) line {
	data := r.waiting()
	r.start += size
	l := line{size: r.passed + int64(size), inside: r.inside}
	if r.skipped {
		r.passOver(data[:text])
		l.tooLong, l.text, l.length = true, r.long.text, r.long.length
		l.size += r.long.size - int64(text)
		r.skipped, r.long = false, line{}
	} else {
		l.text = data[:text:text]
		l = measured(l, r.limit)
	}
	r.phase, r.scanned, r.passed = betweenValues, 0, 0
	return l
}

// atEnd is what is left when the source has ended.
func (r *valueReader) atEnd() (line, error) {
	switch {
	case r.err != io.EOF:
		return line{}, r.err
	case r.phase == inValue || r.phase == inBroken:
		r.phase = inBroken // what is not complete is not whole
		n := len(r.waiting())
		return r.give(n, n), nil
	}
	return line{}, io.EOF
}

// skipLong drops what is waiting of a value that is too long, all but its head.
func (r *valueReader) skipLong(data []byte) {
	if !r.skipped && len(data) <= r.limit {
		return
	}
	r.skipped = true
	r.passOver(data)
	r.drop()
	r.scanned = 0
}

func (r *valueReader) passOver(part []byte) {
	if room := headOfLongLine - len(r.long.text); room > 0 {
		r.long.text = append(r.long.text, part[:min(room, len(part))]...)
	}
	r.long.size += int64(len(part))
	r.long.length = r.long.size
	r.long.tooLong = true
}
