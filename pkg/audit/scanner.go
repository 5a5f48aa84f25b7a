package audit

import (
	"encoding/binary"
	"math/bits"
)

// maxDepth is how deep arrays and objects may nest, as in encoding/json.
const maxDepth = 10_000

// fault says why a text is not JSON.
type fault uint8

const (
	faultNone   fault = iota
	faultEnd          // the text ends inside a value
	faultSyntax       // a byte that RFC 8259 does not allow there
	faultDepth        // nested deeper than maxDepth
)

// scanner walks over one JSON text once, strictly: what encoding/json refuses,
// it refuses. (Invalid UTF-8 in strings is let pass by both.)
//
// After a fault every method returns an empty value and every loop ends: pos
// is then at the end of the data, and the first fault is kept.
type scanner struct {
	data    []byte
	pos     int
	depth   int
	fault   fault
	faultAt int
	arena   *arena
	items   []string                // of list
	nesting [maxDepth/64 + 1]uint64 // of skip: one bit per level, set for objects
}

func (s *scanner) reset(data []byte, arena *arena) {
	s.data, s.pos, s.depth = data, 0, 0
	s.fault, s.faultAt = faultNone, 0
	s.arena = arena
}

func (s *scanner) fail(why fault, at int) {
	if s.fault == faultNone {
		s.fault, s.faultAt = why, min(at, len(s.data))
	}
	s.pos = len(s.data)
}

// failHere is for a byte that does not fit, or for there being none.
func (s *scanner) failHere() {
	if s.pos >= len(s.data) {
		s.fail(faultEnd, s.pos)
		return
	}
	s.fail(faultSyntax, s.pos)
}

func (s *scanner) space() {
	s.pos = skipSpace(s.data, s.pos)
}

func skipSpace(data []byte, i int) int {
	for i < len(data) {
		switch data[i] {
		case ' ', '\t', '\n', '\r':
			i++
		default:
			return i
		}
	}
	return i
}

// peek returns the first byte of the value at hand, 0 when there is none.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// enter goes into the object or array at pos and says whether it has a member.
// closing is '}' or ']'.
func (s *scanner) enter(closing byte) bool {
	s.pos++
	if s.depth++; s.depth > maxDepth {
		s.fail(faultDepth, s.pos-1)
		return false
	}
	s.space()
	if s.peek() == closing {
		s.pos++
		s.depth--
		return false
	}
	return true
}

// next goes on to the next member after a value and says whether there is one.
func (s *scanner) next(closing byte) bool {
	i := s.pos
	if i < len(s.data) && s.data[i] <= ' ' {
		i = skipSpace(s.data, i)
	}
	if i < len(s.data) {
		switch s.data[i] {
		case ',':
			i++
			if i < len(s.data) && s.data[i] <= ' ' {
				i = skipSpace(s.data, i)
			}
			s.pos = i
			return true
		case closing:
			s.pos = i + 1
			s.depth--
			return false
		}
	}
	s.pos = i
	s.failHere()
	return false
}

// key takes a member's name and colon. The value is at pos afterwards.
func (s *scanner) key() string {
	if s.pos >= len(s.data) || s.data[s.pos] != '"' {
		s.failHere()
		return ""
	}
	start := s.pos + 1
	end, flags := scanString(s.data, start)
	if flags&textBroken != 0 {
		s.failString(end, flags)
		return ""
	}
	i := end + 1
	if i < len(s.data) && s.data[i] <= ' ' {
		i = skipSpace(s.data, i)
	}
	if i >= len(s.data) || s.data[i] != ':' {
		s.pos = i
		s.failHere()
		return ""
	}
	i++
	if i < len(s.data) && s.data[i] <= ' ' {
		i = skipSpace(s.data, i)
	}
	s.pos = i
	return s.decode(s.data[start:end], flags)
}

func (s *scanner) failString(at int, flags textFlags) {
	if flags&textCut != 0 {
		s.fail(faultEnd, at)
		return
	}
	s.fail(faultSyntax, at)
}

// rawString takes the string at pos, which must be one, undecoded.
func (s *scanner) rawString() ([]byte, textFlags) {
	start := s.pos + 1
	end, flags := scanString(s.data, start)
	if flags&textBroken != 0 {
		s.failString(end, flags)
		return nil, 0
	}
	s.pos = end + 1
	return s.data[start:end], flags
}

// raw takes the value at pos, whatever it is, as it stands.
func (s *scanner) raw() []byte {
	start := s.pos
	s.skip()
	if s.fault != faultNone {
		return nil
	}
	return s.data[start:s.pos]
}

// skip takes the value at pos and checks its syntax.
func (s *scanner) skip() {
	data, i, depth := s.data, s.pos, 0
	for {
		// A value starts at i.
		if i >= len(data) {
			s.fail(faultEnd, i)
			return
		}
		switch c := data[i]; {
		case c == '"':
			end, flags := scanString(data, i+1)
			if flags&textBroken != 0 {
				s.failString(end, flags)
				return
			}
			i = end + 1
		case c == '{' || c == '[':
			if s.depth+depth >= maxDepth {
				s.fail(faultDepth, i)
				return
			}
			object := c == '{'
			word, bit := depth/64, uint64(1)<<(depth%64)
			if object {
				s.nesting[word] |= bit
			} else {
				s.nesting[word] &^= bit
			}
			depth++
			if i++; i < len(data) && data[i] <= ' ' {
				i = skipSpace(data, i)
			}
			if i < len(data) && data[i] == c+2 { // '{'+2 is '}', '['+2 is ']'
				i++
				depth--
				break
			}
			if object {
				if i = s.skipKey(i); i < 0 {
					return
				}
			}
			continue
		case c == '-' || c-'0' <= 9:
			end, why := scanNumber(data, i)
			if why != faultNone {
				s.fail(why, end)
				return
			}
			i = end
		default:
			end, why := scanLiteral(data, i)
			if why != faultNone {
				s.fail(why, end)
				return
			}
			i = end
		}
		// A value ended before i.
		for {
			if depth == 0 {
				s.pos = i
				return
			}
			if i < len(data) && data[i] <= ' ' {
				i = skipSpace(data, i)
			}
			if i >= len(data) {
				s.fail(faultEnd, i)
				return
			}
			object := s.nesting[(depth-1)/64]&(uint64(1)<<((depth-1)%64)) != 0
			c := data[i]
			if c == ',' {
				if i++; i < len(data) && data[i] <= ' ' {
					i = skipSpace(data, i)
				}
				if object {
					if i = s.skipKey(i); i < 0 {
						return
					}
				}
				break
			}
			if (object && c == '}') || (!object && c == ']') {
				depth--
				i++
				continue
			}
			s.fail(faultSyntax, i)
			return
		}
	}
}

// skipKey checks a member's name and colon and returns where the value starts,
// or -1 after a fault.
func (s *scanner) skipKey(i int) int {
	data := s.data
	if i >= len(data) || data[i] != '"' {
		s.pos = i
		s.failHere()
		return -1
	}
	end, flags := scanString(data, i+1)
	if flags&textBroken != 0 {
		s.failString(end, flags)
		return -1
	}
	if i = end + 1; i < len(data) && data[i] <= ' ' {
		i = skipSpace(data, i)
	}
	if i >= len(data) || data[i] != ':' {
		s.pos = i
		s.failHere()
		return -1
	}
	if i++; i < len(data) && data[i] <= ' ' {
		i = skipSpace(data, i)
	}
	return i
}

func scanLiteral(data []byte, i int) (end int, why fault) {
	var want string
	switch data[i] {
	case 't':
		want = "true"
	case 'f':
		want = "false"
	case 'n':
		want = "null"
	default:
		return i, faultSyntax
	}
	for k := range len(want) {
		if i+k >= len(data) {
			return i + k, faultEnd
		}
		if data[i+k] != want[k] {
			return i + k, faultSyntax
		}
	}
	return i + len(want), faultNone
}

func scanNumber(data []byte, i int) (end int, why fault) {
	if data[i] == '-' {
		if i++; i >= len(data) {
			return i, faultEnd
		}
	}
	switch {
	case data[i] == '0':
		i++
	case data[i]-'1' <= 8:
		i = scanDigits(data, i)
	default:
		return i, faultSyntax
	}
	if i < len(data) && data[i] == '.' {
		from := i + 1
		if i = scanDigits(data, from); i == from {
			return i, missingDigit(data, i)
		}
	}
	if i < len(data) && (data[i] == 'e' || data[i] == 'E') {
		i++
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		from := i
		if i = scanDigits(data, from); i == from {
			return i, missingDigit(data, i)
		}
	}
	return i, faultNone
}

func scanDigits(data []byte, i int) int {
	for i < len(data) && data[i]-'0' <= 9 {
		i++
	}
	return i
}

func missingDigit(data []byte, i int) fault {
	if i >= len(data) {
		return faultEnd
	}
	return faultSyntax
}

// textFlags say what a string holds besides plain ASCII.
type textFlags uint8

const (
	textEscaped  textFlags = 1 << iota // has backslashes
	textNonASCII                       // has bytes from 0x80
	textCut                            // the data ends before the closing quote
	textInvalid                        // a control character or an unknown escape
	textBroken   = textCut | textInvalid
)

const (
	eachByte = 0x0101010101010101
	highBits = 0x8080808080808080
)

// scanString finds the closing quote of the string whose first byte is at i,
// eight bytes at a time: of each word it marks the quotes, backslashes and
// control characters, and the lowest mark is exact.
func scanString(data []byte, i int) (end int, flags textFlags) {
	var high uint64
	for {
		for i+8 <= len(data) {
			word := binary.LittleEndian.Uint64(data[i:])
			quote := word ^ ('"' * eachByte)
			slash := word ^ ('\\' * eachByte)
			marks := ((quote - eachByte) &^ quote) | ((slash - eachByte) &^ slash) | ((word - ' '*eachByte) &^ word)
			if marks &= highBits; marks != 0 {
				before := bits.TrailingZeros64(marks) &^ 7
				high |= word & (1<<before - 1)
				i += before / 8
				break
			}
			high |= word
			i += 8
		}
		if i >= len(data) {
			return i, flags | textCut
		}
		switch c := data[i]; {
		case c == '"':
			if high&highBits != 0 {
				flags |= textNonASCII
			}
			return i, flags
		case c == '\\':
			flags |= textEscaped
			next, wrong := scanEscape(data, i)
			if wrong != 0 {
				return next, flags | wrong
			}
			i = next
		case c < ' ':
			return i, flags | textInvalid
		default:
			high |= uint64(c)
			i++
		}
	}
}

// scanEscape checks the escape at i and returns what comes after it.
func scanEscape(data []byte, i int) (int, textFlags) {
	if i+1 >= len(data) {
		return i + 1, textCut
	}
	switch data[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2, 0
	case 'u':
		for k := i + 2; k < i+6; k++ {
			if k >= len(data) {
				return k, textCut
			}
			if unhex(data[k]) < 0 {
				return k, textInvalid
			}
		}
		return i + 6, 0
	}
	return i + 1, textInvalid
}
