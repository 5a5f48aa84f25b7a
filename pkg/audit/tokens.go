package audit

import (
	"encoding/binary"
	"math/bits"
)

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

// markSpecial sets the high bit of each byte of a word that is a quote, a
// backslash or a control character. Below each of these stands a borrow that
// may mark the bytes above it wrongly; the lowest mark is always exact.
func markSpecial(word uint64) uint64 {
	quote := word ^ ('"' * eachByte)
	slash := word ^ ('\\' * eachByte)
	return ((quote - eachByte) | (slash - eachByte) | (word - ' '*eachByte)) &^ word & highBits
}

// scanString finds the closing quote of the string whose first byte is at i,
// eight bytes at a time.
func scanString(data []byte, i int) (end int, flags textFlags) {
	var high uint64
	for {
		for i+8 <= len(data) {
			word := binary.LittleEndian.Uint64(data[i:])
			if marks := markSpecial(word); marks != 0 {
				before := bits.TrailingZeros64(marks) &^ 7
				high |= word & (1<<before - 1)
				if i += before / 8; data[i] == '"' {
					if high&highBits != 0 {
						flags |= textNonASCII
					}
					return i, flags
				}
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
