package split

import (
	"bytes"

	"github.com/auditstream/auditstream/topics"
)

// deepest is how deep lists and objects may nest, as in encoding/json.
const deepest = 10_000

// scan follows one JSON value through chunks of a stream. It knows as much of
// the grammar as it takes to notice soon that a value is broken: what is right
// and what is not in detail is for the enricher to say.
type scan struct {
	state  scanState
	nested []uint64 // a bit for each open list (0) or object (1)
	depth  int
	word   string // what is left of true, false or null
	last   byte   // the last byte that is no white space
}

type scanState uint8

const (
	atValue scanState = iota
	atFirstElement
	atFirstKey
	atKey
	atColon
	afterValue
	inNumber
	inWord
	inString
	inEscape
	inKey
	inKeyEscape
)

// verdict of a chunk.
type verdict uint8

const (
	wantMore verdict = iota
	complete         // the value has ended
	broken           // it is no JSON from here on
)

// begin prepares for a new value.
func (s *scan) begin() {
	s.state, s.depth, s.word, s.last = atValue, 0, "", 0
}

// enterObject prepares for what follows an element in a list that is a value of
// an object at the top: the list's end and the rest of the object.
func (s *scan) enterObject() {
	s.begin()
	s.push(true)
	s.push(false)
	s.state = afterValue
}

// feed takes the next bytes of the value. n is how many belong to it: all of
// them as long as more is wanted, those up to its end, or those before the
// byte that breaks it.
func (s *scan) feed(data []byte) (n int, v verdict) {
	for n < len(data) {
		c := data[n]
		switch s.state {
		case inString, inKey:
			at := endOfString(data[n:])
			if at < 0 {
				return len(data), wantMore
			}
			n += at
			switch data[n] {
			case '"':
				s.last = '"'
				if s.state == inKey {
					s.state = atColon
				} else if s.ended() {
					return n + 1, complete
				}
			case '\\':
				s.state++ // the escape of either
			default: // no string goes over a line end
				return n, broken
			}
			n++
			continue
		case inEscape, inKeyEscape:
			if c == '\n' {
				return n, broken
			}
			s.state--
			n++
			continue
		case inNumber:
			if isNumber(c) {
				n++
				continue
			}
			if s.last = '0'; s.ended() {
				return n, complete
			}
			continue
		case inWord:
			if c != s.word[0] {
				return n, broken
			}
			n++
			if s.word = s.word[1:]; s.word == "" {
				if s.last = c; s.ended() {
					return n, complete
				}
			}
			continue
		}
		if isSpace(c) {
			n++
			continue
		}
		next, v := s.token(c)
		if v == broken {
			return n, broken
		}
		s.last = c
		n++
		if v == complete {
			return n, complete
		}
		s.state = next
	}
	return n, wantMore
}

// token takes a byte that is neither white space nor within a string, number
// or word.
func (s *scan) token(c byte) (next scanState, v verdict) {
	switch s.state {
	case atValue, atFirstElement:
		if c == ']' && s.state == atFirstElement {
			return s.pop()
		}
		return s.value(c)
	case atFirstKey, atKey:
		switch {
		case c == '"':
			return inKey, wantMore
		case c == '}' && s.state == atFirstKey:
			return s.pop()
		}
	case atColon:
		if c == ':' {
			return atValue, wantMore
		}
	case afterValue:
		object := s.inObject()
		switch {
		case c == ',' && object:
			return atKey, wantMore
		case c == ',':
			return atValue, wantMore
		case c == '}' && object, c == ']' && !object:
			return s.pop()
		}
	}
	return s.state, broken
}

func (s *scan) value(c byte) (next scanState, v verdict) {
	switch {
	case c == '"':
		return inString, wantMore
	case c == '{' && s.push(true):
		return atFirstKey, wantMore
	case c == '[' && s.push(false):
		return atFirstElement, wantMore
	case c == '-' || '0' <= c && c <= '9':
		return inNumber, wantMore
	case c == 't':
		s.word = "true"[1:]
	case c == 'f':
		s.word = "false"[1:]
	case c == 'n':
		s.word = "null"[1:]
	default:
		return s.state, broken
	}
	return inWord, wantMore
}

// ended notes the end of a value, and tells whether it was the whole one.
func (s *scan) ended() bool {
	s.state = afterValue
	return s.depth == 0
}

func (s *scan) push(object bool) bool {
	if s.depth == deepest {
		return false
	}
	word, bit := s.depth/64, uint64(1)<<(s.depth%64)
	if word == len(s.nested) {
		s.nested = append(s.nested, 0)
	}
	if object {
		s.nested[word] |= bit
	} else {
		s.nested[word] &^= bit
	}
	s.depth++
	return true
}

func (s *scan) pop() (scanState, verdict) {
	s.depth--
	if s.ended() {
		return afterValue, complete
	}
	return afterValue, wantMore
}

func (s *scan) inObject() bool {
	at := s.depth - 1
	return s.nested[at/64]&(1<<(at%64)) != 0
}

// endOfString finds the quote, backslash or line end that comes first.
func endOfString(data []byte) int {
	for i, c := range data {
		if c == '"' || c == '\\' || c == '\n' {
			return i
		}
	}
	return -1
}

func isNumber(c byte) bool {
	return '0' <= c && c <= '9' || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E'
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

var byteOrderMark = []byte("\xef\xbb\xbf")

// skipSpace is the place of the first byte from at on that is no white space.
func skipSpace(data []byte, at int) int {
	for at < len(data) && isSpace(data[at]) {
		at++
	}
	return at
}

// entrance tells whether a value that begins at the start of data is one that
// SplitValues enters, and where in data its elements begin. more is true when
// that shows only with more bytes.
func entrance(data []byte) (inside topics.Inside, elements int, more bool) {
	if len(data) == 0 {
		return topics.InsideNothing, 0, true
	}
	switch data[0] {
	case '[':
		// A list whose first element is a number is a record with its time, as
		// Fluentd's forward protocol has them.
		at := skipSpace(data[:min(len(data), lookAhead)], 1)
		if at == len(data) || at == lookAhead {
			return topics.InsideNothing, 0, at < lookAhead
		}
		if c := data[at]; c == '-' || '0' <= c && c <= '9' {
			return topics.InsideNothing, 0, false
		}
		return topics.InsideList, 1, false
	case '{':
		at := 1
		for _, want := range recordsKey {
			at = skipSpace(data[:min(len(data), lookAhead)], at)
			if at >= lookAhead {
				return topics.InsideNothing, 0, false
			}
			have := data[at:min(at+len(want), len(data))]
			if !bytes.EqualFold(have, want[:len(have)]) {
				return topics.InsideNothing, 0, false
			}
			if len(have) < len(want) {
				return topics.InsideNothing, 0, true
			}
			at += len(want)
		}
		return topics.InsideRecords, at, false
	}
	return topics.InsideNothing, 0, false
}

// lookAhead bounds the white space before what entrance looks for.
const lookAhead = 4 << 10

var recordsKey = [][]byte{[]byte(`"records"`), []byte(`:`), []byte(`[`)}

// decisive is how many bytes of an object decide how it is split.
const decisive = 64 << 10

// splittingOf says how an object is split by its first bytes, decisive of them
// unless it is smaller, which is when they are all.
//
// Lines it is, unless the first value
//   - goes on over a line end (pretty-printed), or
//   - begins a line that doesn't end here: a list, or values back to back, may
//     be of any size in one line, or
//   - is an object of Records, which is no event as a whole.
//
// A line within the first bytes that is a list, or has several values in it,
// stays one: the enricher finds the events in it. Where the guess is values and
// the object has lines, no harm is done: a line of JSON is a value.
func splittingOf(data []byte, all bool) topics.Splitting {
	data = bytes.TrimPrefix(data, byteOrderMark)
	data = data[skipSpace(data, 0):]
	if len(data) == 0 || data[0] != '{' && data[0] != '[' {
		return topics.SplitLines
	}
	if inside, _, _ := entrance(data); inside == topics.InsideRecords {
		return topics.SplitValues
	}
	lineEnd := bytes.IndexByte(data, '\n')
	if lineEnd < 0 {
		if all {
			return topics.SplitLines
		}
		return topics.SplitValues
	}
	var s scan
	s.begin()
	n, v := s.feed(data)
	if v == wantMore || v == complete && n > lineEnd {
		return topics.SplitValues
	}
	return topics.SplitLines
}
