package audit

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
	if flags == 0 {
		return view(s.data[start:end])
	}
	return s.decode(s.data[start:end], flags)
}

func (s *scanner) failString(at int, flags textFlags) {
	if flags&textCut != 0 {
		s.fail(faultEnd, at)
		return
	}
	s.fail(faultSyntax, at)
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
