package gunzip

import (
	"encoding/binary"
	"io"
)

const (
	longestMatch = 258
	// inRoom and outRoom are what a turn of the fast loop may take and give, and
	// what it touches beyond.
	inRoom  = 16
	outRoom = longestMatch + 16
	// mostBits that a length and its distance have.
	mostBits = 48
)

// decode goes on with a block from p[n] on, until the block or p ends, or the
// source has nothing.
func (r *Reader) decode(p []byte, n int) (int, error) {
	if r.length > 0 {
		n = r.match(p, n)
	}
	for n < len(p) {
		if len(r.in)-r.at >= inRoom && len(p)-n >= outRoom {
			var special uint32
			n, special = r.decodeFast(p, n)
			if special == isBlockEnd {
				r.phase = atBlock
				return n, nil
			}
			if special != 0 {
				return n, ErrCorrupt
			}
		}
		if n >= r.base+1 && r.starved() {
			return n, nil
		}
		var err error
		n, err = r.decodeOne(p, n)
		if err != nil || r.phase != inCodes {
			return n, err
		}
	}
	return n, nil
}

// decodeOne takes one symbol, however little room there is.
func (r *Reader) decodeOne(p []byte, n int) (int, error) {
	// Where the stream ends sooner, what there is may be enough.
	if err := r.fill(mostBits); err != nil && err != io.EOF { //nolint:errorlint // an error that wraps it is the source's own
		return n, err
	}
	entry := r.literals.first[r.bits&(1<<literalBits-1)]
	if entry&isSecond != 0 && entry&isLiteral == 0 {
		entry = r.literals.second[uint64(entry>>16)+r.bits>>literalBits&(1<<(entry>>8&15)-1)]
	}
	value, err := r.use(entry)
	switch {
	case err != nil:
		return n, err
	case entry&isLiteral != 0:
		p[n] = byte(entry >> 16)
		return n + 1, nil
	case entry&isBlockEnd != 0:
		r.phase = atBlock
		return n, nil
	}
	r.length = int(value)
	entry = r.offsets.first[r.bits&(1<<offsetBits-1)]
	if entry&isSecond != 0 {
		entry = r.offsets.second[uint64(entry>>16)+r.bits>>offsetBits&(1<<(entry>>8&15)-1)]
	}
	if value, err = r.use(entry); err != nil {
		return n, err
	}
	r.distance = int(value)
	if r.distance > n-r.base+r.known {
		return n, ErrCorrupt
	}
	return r.match(p, n), nil
}

// use takes the bits of an entry and gives its value.
func (r *Reader) use(entry uint32) (uint32, error) {
	width := uint(entry & 63)
	switch {
	case entry&isLiteral == 0 && entry&isSpecial != 0 && entry&isBlockEnd == 0:
		if r.count < longestCode {
			return 0, io.ErrUnexpectedEOF // of bits that aren't there
		}
		return 0, ErrCorrupt
	case width > r.count:
		return 0, io.ErrUnexpectedEOF
	}
	value := entry>>16&0x7fff + uint32(r.bits&(1<<width-1)>>(entry>>8&15)) //nolint:gosec // of 15 bits
	r.bits >>= width
	r.count -= width
	return value, nil
}

// match copies r.length bytes from r.distance before p[n], as far as p has
// room. The distance is one that there are bytes at.
func (r *Reader) match(p []byte, n int) int {
	for r.length > 0 && n < len(p) {
		from := n - r.distance
		var copied int
		if from >= r.base {
			copied = copy(p[n:min(len(p), n+r.length)], p[from:n])
		} else {
			before := r.base - from // so many bytes back in history
			copied = copy(p[n:min(len(p), n+r.length)], r.history[window-before:])
		}
		n += copied
		r.length -= copied
	}
	return n
}

// decodeFast decodes while there is room enough on both sides not to look at
// each bit and byte. It gives the special entry that ended it, or zero.
func (r *Reader) decodeFast(p []byte, n int) (int, uint32) {
	in, at, bits, count, base := r.in, r.at, r.bits, r.count, r.base
	literals, offsets := &r.literals.first, &r.offsets.first
	special := uint32(0)
	for len(in)-at >= inRoom && len(p)-n >= outRoom {
		// 56 bits or more: those beyond are taken again by the next refill.
		bits |= binary.LittleEndian.Uint64(in[at:at+8]) << (count & 63)
		at += int((63 - count) >> 3) //nolint:gosec // of 7
		count |= 56
		entry := literals[bits&(1<<literalBits-1)]
		if entry&isLiteral != 0 {
			p[n] = byte(entry >> 16)
			n++
			bits >>= entry & 63
			count -= uint(entry & 63)
			entry = literals[bits&(1<<literalBits-1)]
			if entry&isLiteral != 0 {
				p[n] = byte(entry >> 16)
				n++
				bits >>= entry & 63
				count -= uint(entry & 63)
				entry = literals[bits&(1<<literalBits-1)]
				if entry&isLiteral != 0 {
					p[n] = byte(entry >> 16)
					n++
					bits >>= entry & 63
					count -= uint(entry & 63)
					continue
				}
			}
			bits |= binary.LittleEndian.Uint64(in[at:at+8]) << (count & 63)
			at += int((63 - count) >> 3) //nolint:gosec // of 7
			count |= 56
		}
		if entry&isSpecial != 0 {
			if entry&isSecond != 0 {
				entry = r.literals.second[uint64(entry>>16)+bits>>literalBits&(1<<(entry>>8&15)-1)]
			}
			switch {
			case entry&isLiteral != 0:
				p[n] = byte(entry >> 16)
				n++
				bits >>= entry & 63
				count -= uint(entry & 63)
				continue
			case entry&isBlockEnd != 0:
				bits >>= entry & 63
				count -= uint(entry & 63)
				special = isBlockEnd
			case entry&isSpecial != 0:
				special = isSpecial
			}
			if special != 0 {
				break
			}
		}
		length := int(entry>>16 + uint32(bits&(1<<(entry&63)-1)>>(entry>>8&15))) //nolint:gosec // of 9 bits
		bits >>= entry & 63
		count -= uint(entry & 63)

		entry = offsets[bits&(1<<offsetBits-1)]
		if entry&isSpecial != 0 {
			if entry&isSecond != 0 {
				entry = r.offsets.second[uint64(entry>>16)+bits>>offsetBits&(1<<(entry>>8&15)-1)]
			}
			if entry&isSpecial != 0 {
				special = isSpecial
				break
			}
		}
		distance := int(entry>>16 + uint32(bits&(1<<(entry&63)-1)>>(entry>>8&15))) //nolint:gosec // of 16 bits
		bits >>= entry & 63
		count -= uint(entry & 63)

		from := n - distance
		if from < base {
			if distance > n-base+r.known {
				special = isSpecial
				break
			}
			r.length, r.distance = length, distance
			n = r.match(p, n)
			continue
		}
		switch {
		case distance >= 8 && length <= 32:
			// Eight at a time, over the end of the match: what comes next is there.
			to, source := p[n:n+40], p[from:from+40]
			binary.LittleEndian.PutUint64(to, binary.LittleEndian.Uint64(source))
			if length > 8 {
				binary.LittleEndian.PutUint64(to[8:], binary.LittleEndian.Uint64(source[8:]))
				if length > 16 {
					binary.LittleEndian.PutUint64(to[16:], binary.LittleEndian.Uint64(source[16:]))
					binary.LittleEndian.PutUint64(to[24:], binary.LittleEndian.Uint64(source[24:]))
				}
			}
			n += length
		case distance >= length:
			n += copy(p[n:n+length], p[from:from+length])
		default:
			for end := n + length; n < end; {
				n += copy(p[n:end], p[from:n])
			}
		}
	}
	r.at, r.bits, r.count = at, bits, count
	return n, special
}
