package gunzip

import (
	"io"
	"math/bits"
)

const (
	maxLiterals = 286 // literals, the end of a block, lengths
	maxOffsets  = 30
	longestCode = 15

	literalBits = 11
	offsetBits  = 8
	endOfBlock  = 256
)

// Entries of a table.
//
//	0-5    bits to take: the code, and the extra bits after it
//	8-11   bits of the code alone; of a second table, the bits that choose in it
//	13-15  what is no value: see below
//	16-30  literal, base of a length or distance; of a second table, its place
//	31     a literal
const (
	isLiteral  = 1 << 31
	isSpecial  = 1 << 15 // not a value
	isSecond   = 1 << 14 // a second table has the value
	isBlockEnd = 1 << 13
	noCode     = isSpecial
)

// table finds what a code stands for by the next bits: at once where the code
// is short, in a second table where it is long.
type table[first [1 << literalBits]uint32 | [1 << offsetBits]uint32] struct {
	first  first
	second []uint32
}

// lengthCodes and offsetCodes are the values of symbols, without the bits of
// their codes: base<<16 | extra bits.
var (
	literalValues = makeLiteralValues()
	offsetValues  = makeOffsetValues()
	orderOfCodes  = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
)

func makeLiteralValues() (values [288]uint32) {
	for i := range uint32(256) {
		values[i] = isLiteral | i<<16
	}
	values[endOfBlock] = isSpecial | isBlockEnd
	base := uint32(3)
	for i := range uint32(28) {
		extra := uint32(0)
		if i >= 8 {
			extra = i/4 - 1
		}
		values[257+i] = base<<16 | extra
		base += 1 << extra
	}
	values[285] = 258 << 16
	values[286], values[287] = noCode, noCode
	return values
}

func makeOffsetValues() (values [32]uint32) {
	base := uint32(1)
	for i := range uint32(maxOffsets) {
		extra := uint32(0)
		if i >= 4 {
			extra = i/2 - 1
		}
		values[i] = base<<16 | extra
		base += 1 << extra
	}
	values[30], values[31] = noCode, noCode
	return values
}

// build fills first, of 1<<width entries, for codes of the given lengths, and
// gives the second tables. It tells whether the lengths are those of a code: each
// sequence of bits has a meaning, but that one code alone may be of one bit.
func build(first []uint32, second []uint32, width int, lengths []uint8, values []uint32) ([]uint32, bool) {
	second = second[:0]
	var count [longestCode + 1]int // of codes of a length, not yet placed
	for _, length := range lengths {
		count[length]++
	}
	count[0] = 0
	longest := longestCode
	for longest > 0 && count[longest] == 0 {
		longest--
	}
	if longest == 0 {
		clearTo(first, noCode) // it may be there, and not be used
		return second, true
	}
	var next, place [longestCode + 2]int // the first code, and where sorted symbols begin
	for length := 1; length <= longest; length++ {
		next[length] = (next[length-1] + count[length-1]) << 1
		place[length+1] = place[length] + count[length]
	}
	if end := next[longest] + count[longest]; end != 1<<longest && (longest != 1 || end != 1) {
		return second, false
	}
	var sorted [288]uint16
	for symbol, length := range lengths {
		if length > 0 {
			sorted[place[length]] = uint16(symbol) //nolint:gosec // of 288
			place[length]++
		}
	}

	// Short codes: what is filled for one more bit repeats what was there.
	filled, at := 1, 0
	first[0] = noCode
	for length := 1; length <= width; length++ {
		copy(first[filled:2*filled], first[:filled])
		filled *= 2
		for ; length <= longest && count[length] > 0; count[length]-- {
			first[reversed(next[length], length)] = entryOf(values[sorted[at]], length)
			next[length]++
			at++
		}
	}
	// Long codes come in order, so those with the same beginning follow each other.
	for length := width + 1; length <= longest; length++ {
		for ; count[length] > 0; count[length]-- {
			code := reversed(next[length], length)
			next[length]++
			start := code & (1<<width - 1)
			if first[start]&isSecond == 0 {
				size := length - width
				for room := 1<<size - count[length]; room > 0 && width+size < longest; {
					size++
					room = room<<1 - count[width+size]
				}
				first[start] = uint32(len(second))<<16 | isSpecial | isSecond | uint32(size)<<8 //nolint:gosec // small
				for range 1 << size {
					second = append(second, noCode)
				}
			}
			size := first[start] >> 8 & 15
			part := second[first[start]>>16&0x7fff:][:1<<size]
			entry := entryOf(values[sorted[at]], length)
			at++
			for i := code >> width; i < len(part); i += 1 << (length - width) {
				part[i] = entry
			}
		}
	}
	return second, true
}

func clearTo(entries []uint32, value uint32) {
	for i := range entries {
		entries[i] = value
	}
}

func entryOf(value uint32, length int) uint32 {
	if value&isSpecial != 0 && value&isBlockEnd == 0 {
		return value
	}
	n := uint32(length) //nolint:gosec // of 15
	return value + n | n<<8
}

// reversed is a code as it stands in the stream, its first bit the lowest.
func reversed(code, length int) int {
	return int(bits.Reverse16(uint16(code)) >> (16 - length)) //nolint:gosec // of 15 bits
}

// fixedCodes are those of blocks that bring none.
func (r *Reader) fixedCodes() {
	lengths := r.lengths[:0]
	for _, run := range []struct{ n, length uint8 }{{144, 8}, {112, 9}, {24, 7}, {8, 8}} {
		for range run.n {
			lengths = append(lengths, run.length)
		}
	}
	r.literals.second, _ = build(r.literals.first[:], r.literals.second, literalBits, lengths, literalValues[:])
	lengths = lengths[:32]
	for i := range lengths {
		lengths[i] = 5
	}
	r.offsets.second, _ = build(r.offsets.first[:], r.offsets.second, offsetBits, lengths, offsetValues[:])
}

// readCodes reads the codes of a block, and builds the tables for them.
func (r *Reader) readCodes() error {
	counts, err := r.take(14)
	if err != nil {
		return err
	}
	literals, offsets := int(counts&31)+257, int(counts>>5&31)+1
	if literals > maxLiterals || offsets > maxOffsets {
		return ErrCorrupt
	}
	var short [len(orderOfCodes)]uint8 // lengths of the codes for lengths
	for _, symbol := range orderOfCodes[:counts>>10+4] {
		length, err := r.take(3)
		if err != nil {
			return err
		}
		short[symbol] = uint8(length) //nolint:gosec // of 7
	}
	// They use the offsets' table, which is built after them.
	meta, ok := build(r.offsets.first[:], r.offsets.second, offsetBits, short[:], lengthSymbols[:])
	r.offsets.second = meta
	if !ok {
		return ErrCorrupt
	}
	lengths := r.lengths[:literals+offsets]
	for i := 0; i < len(lengths); {
		// The longest code, and what follows it.
		if err := r.fill(14); err != nil && err != io.EOF { //nolint:errorlint // an error that wraps it is the source's own
			return err
		}
		entry := r.offsets.first[r.bits&(1<<offsetBits-1)]
		n := uint(entry & 63)
		if entry&isSpecial != 0 {
			return ErrCorrupt
		}
		if n > r.count {
			return io.ErrUnexpectedEOF
		}
		extra := int(r.bits & (1<<n - 1) >> (entry >> 8 & 15)) //nolint:gosec // of 7 bits
		r.bits >>= n
		r.count -= n
		symbol := uint8(entry >> 16 & 31) //nolint:gosec // masked
		if symbol < 16 {
			lengths[i] = symbol
			i++
			continue
		}
		value, times := uint8(0), 3+extra
		switch {
		case symbol == 16 && i == 0:
			return ErrCorrupt
		case symbol == 16:
			value = lengths[i-1]
		case symbol == 18:
			times += 8
		}
		if i+times > len(lengths) {
			return ErrCorrupt
		}
		for end := i + times; i < end; i++ {
			lengths[i] = value
		}
	}
	if r.literals.second, ok = build(r.literals.first[:], r.literals.second, literalBits, lengths[:literals], literalValues[:]); !ok {
		return ErrCorrupt
	}
	if r.offsets.second, ok = build(r.offsets.first[:], r.offsets.second, offsetBits, lengths[literals:], offsetValues[:]); !ok {
		return ErrCorrupt
	}
	return nil
}

// lengthSymbols are the values of the codes for lengths: 0 to 15 are lengths,
// the others repeat, as often as their extra bits say.
var lengthSymbols = func() (values [len(orderOfCodes)]uint32) {
	for i := range uint32(len(orderOfCodes)) {
		values[i] = i << 16
	}
	values[16] |= 2
	values[17] |= 3
	values[18] |= 7
	return values
}()
