package audit

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// arena holds the texts that cannot point into the line because they are
// unescaped, mended or put together. It only grows until the next line, so a
// string in it stays valid also when the buffer moves to a larger one.
type arena struct{ buf []byte }

// maxArena is what is kept between lines; a line of many MiB must not pin its
// size for good.
const maxArena = 4 << 20

func (a *arena) reset() {
	if cap(a.buf) > maxArena {
		a.buf = nil
	}
	a.buf = a.buf[:0]
}

// from returns what was appended since start.
func (a *arena) from(start int) string { return view(a.buf[start:]) }

// join puts two texts together.
func (a *arena) join(first, second string) string {
	start := len(a.buf)
	a.buf = append(append(a.buf, first...), second...)
	return a.from(start)
}

// list puts texts together with commas.
func (a *arena) list(texts []string) string {
	switch len(texts) {
	case 0:
		return ""
	case 1:
		return texts[0]
	}
	start := len(a.buf)
	for i, text := range texts {
		if i > 0 {
			a.buf = append(a.buf, ',')
		}
		a.buf = append(a.buf, text...)
	}
	return a.from(start)
}

// view is the text of b without a copy. It is valid as long as b is unchanged:
// for the line and the arena that is until the next line.
func view(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// decode makes valid text of a string's inside: escapes resolved, and U+FFFD
// for each byte that is not UTF-8, as encoding/json does.
func (s *scanner) decode(raw []byte, flags textFlags) string {
	switch {
	case flags == 0:
		return view(raw)
	case flags&textEscaped != 0:
		raw = s.arena.unescape(raw)
	}
	return s.arena.mend(raw)
}

// mend returns b as valid UTF-8, in place when it is.
func (a *arena) mend(b []byte) string {
	if utf8.Valid(b) {
		return view(b)
	}
	start := len(a.buf)
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		a.buf = utf8.AppendRune(a.buf, r) // RuneError encodes as U+FFFD
		b = b[size:]
	}
	return a.from(start)
}

// reserve makes room for n bytes more.
func (a *arena) reserve(n int) {
	if need := len(a.buf) + n; need > cap(a.buf) {
		grown := make([]byte, len(a.buf), need+need/2)
		copy(grown, a.buf)
		a.buf = grown
	}
}

// unescape appends the inside of a checked string with its escapes resolved.
// Bytes that are not UTF-8 stay as they are: the text may be an event, whose
// own strings are mended later. The result is never longer than raw.
func (a *arena) unescape(raw []byte) []byte {
	a.reserve(len(raw))
	start := len(a.buf)
	out := a.buf[start : start+len(raw)]
	n := 0
	for i := 0; i < len(raw); {
		// Eight bytes at a time are copied on trial: n never overtakes i, so
		// there is room, and what follows a backslash is overwritten.
		for i+8 <= len(raw) {
			word := binary.LittleEndian.Uint64(raw[i:])
			binary.LittleEndian.PutUint64(out[n:], word)
			slash := word ^ ('\\' * eachByte)
			if marks := (slash - eachByte) &^ slash & highBits; marks != 0 {
				before := bits.TrailingZeros64(marks) / 8
				i, n = i+before, n+before
				break
			}
			i, n = i+8, n+8
		}
		if i == len(raw) {
			break
		}
		if raw[i] != '\\' {
			out[n] = raw[i]
			i, n = i+1, n+1
			continue
		}
		if c := escapes[raw[i+1]]; c != 0 {
			out[n] = c
			i, n = i+2, n+1
			continue
		}
		var used int
		used, n = resolveEscape(raw[i:], out, n)
		i += used
	}
	a.buf = a.buf[:start+n]
	return a.buf[start:]
}

// resolveEscape writes what the checked \u at the start of raw stands for to
// out[n:]. A surrogate without its other half becomes U+FFFD.
func resolveEscape(raw, out []byte, n int) (used, written int) {
	r := hexRune(raw[2:])
	if utf16.IsSurrogate(r) {
		if len(raw) >= 12 && raw[6] == '\\' && raw[7] == 'u' && isHex(raw[8:12]) {
			if both := utf16.DecodeRune(r, hexRune(raw[8:])); both != utf8.RuneError {
				return 12, n + utf8.EncodeRune(out[n:], both)
			}
		}
		r = utf8.RuneError
	}
	return 6, n + utf8.EncodeRune(out[n:], r)
}

// unescaped takes the string at pos in one pass, checked and with its escapes
// resolved into the arena: for the long texts that are events.
func (s *scanner) unescaped() []byte {
	data, i := s.data, s.pos+1
	s.arena.reserve(len(data) - i)
	start := len(s.arena.buf)
	out := s.arena.buf[start : start+len(data)-i]
	n := 0
	for {
		for i+8 <= len(data) {
			word := binary.LittleEndian.Uint64(data[i:])
			binary.LittleEndian.PutUint64(out[n:], word)
			if marks := markSpecial(word); marks != 0 {
				before := bits.TrailingZeros64(marks) / 8
				i, n = i+before, n+before
				break
			}
			i, n = i+8, n+8
		}
		if i >= len(data) {
			s.fail(faultEnd, i)
			return nil
		}
		switch c := data[i]; {
		case c == '"':
			s.pos = i + 1
			s.arena.buf = s.arena.buf[:start+n]
			return s.arena.buf[start:]
		case c == '\\':
			if i+1 < len(data) && escapes[data[i+1]] != 0 {
				out[n] = escapes[data[i+1]]
				i, n = i+2, n+1
				continue
			}
			next, wrong := scanEscape(data, i)
			if wrong != 0 {
				s.failString(next, wrong)
				return nil
			}
			var used int
			used, n = resolveEscape(data[i:], out, n)
			i += used
		case c < ' ':
			s.fail(faultSyntax, i)
			return nil
		default:
			out[n] = c
			i, n = i+1, n+1
		}
	}
}

// escapes are the letters after a backslash with what they stand for; u is not
// among them.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func hexRune(b []byte) rune {
	return rune(unhex(b[0])<<12 | unhex(b[1])<<8 | unhex(b[2])<<4 | unhex(b[3]))
}

func isHex(b []byte) bool {
	for _, c := range b {
		if unhex(c) < 0 {
			return false
		}
	}
	return true
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// text takes the value at pos as text, whatever its type: a string decoded, a
// number or boolean as it is written, null empty, an object or array as compact
// JSON (so that nothing an event says is hidden by its type).
func (s *scanner) text() string {
	if s.peek() != '"' {
		return s.otherText()
	}
	start := s.pos + 1
	end, flags := scanString(s.data, start)
	if flags == 0 {
		s.pos = end + 1
		return view(s.data[start:end])
	}
	return s.endText(start, end, flags)
}

// endText ends the string of a scan that found more than plain ASCII.
func (s *scanner) endText(start, end int, flags textFlags) string {
	if flags&textBroken != 0 {
		s.failString(end, flags)
		return ""
	}
	s.pos = end + 1
	return s.decode(s.data[start:end], flags)
}

func (s *scanner) otherText() string {
	switch s.peek() {
	case '{', '[':
		return s.compact()
	case 'n':
		s.skip()
		return ""
	}
	return view(s.raw())
}

// compact takes the value at pos as JSON without white space between tokens.
func (s *scanner) compact() string {
	raw := s.raw()
	plain := true
	for _, c := range raw {
		if c <= ' ' || c >= utf8.RuneSelf {
			plain = false
			break
		}
	}
	if plain {
		return view(raw)
	}
	start := len(s.arena.buf)
	out, inString := s.arena.buf, false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case inString && c == '\\':
			out = append(out, c)
			i++
			c = raw[i]
		case c == '"':
			inString = !inString
		case !inString && c <= ' ':
			continue
		}
		out = append(out, c)
	}
	s.arena.buf = out
	return s.arena.mend(out[start:])
}

// texts takes an array of texts, or one text alone, leaving nulls out.
func (s *scanner) texts(into []string) []string {
	switch s.peek() {
	case '[':
		for more := s.enter(']'); more; more = s.next(']') {
			if s.peek() == 'n' {
				s.skip()
				continue
			}
			into = append(into, s.text())
		}
	case 'n':
		s.skip()
	default:
		into = append(into, s.text())
	}
	return into
}
