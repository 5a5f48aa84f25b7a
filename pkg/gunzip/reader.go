// Package gunzip decompresses gzip streams of any number of members straight
// into the caller's memory. It stands at the fetcher's hottest place: nearly
// every object is gzip, and decompressing it is most of what bringing it into
// Kafka costs. Its Reader gives the bytes of compress/gzip, and refuses what
// that refuses, in little more than half of the time.
package gunzip

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// ErrCorrupt: the compressed data is none.
var ErrCorrupt = errors.New("gunzip: corrupt compressed data")

// window is how far back a match may reach.
const window = 32 << 10

// phase is what comes next in the stream.
type phase uint8

const (
	atMember phase = iota // a header, or the end of the stream
	atBlock               // a block's header, or the trailer after the last
	inStored
	inCodes
)

// Reader decompresses. It is used again with Reset. Its zero value has ended.
type Reader struct {
	source *bufio.Reader
	err    error // what every further Read gives

	// in is what source holds, from at on not yet taken. bits are bytes taken and
	// not yet used: the lower count of them. What is above those is zero or the
	// bytes of in that follow.
	in    []byte
	at    int
	bits  uint64
	count uint

	phase  phase
	last   bool // the block is the member's last
	stored int  // bytes left of a stored block
	// What is left of a match that the caller's memory had no room for.
	length, distance int

	// The member's bytes before p[base] of the Read under way: the last known of
	// history.
	history [window]byte
	known   int
	base    int

	sum, size uint32 // of the member before base

	literals table[[1 << literalBits]uint32]
	offsets  table[[1 << offsetBits]uint32]
	lengths  [maxLiterals + maxOffsets]uint8 // of the block's codes
}

// Reset begins with a stream. It reads the first header, as gzip.Reader does.
func (r *Reader) Reset(source *bufio.Reader) error {
	r.source, r.err = source, nil
	r.in, r.at, r.bits, r.count = nil, 0, 0, 0
	r.phase = atMember
	r.err = r.member()
	r.giveBack()
	return r.err
}

// Read implements io.Reader. It waits for the source only when it has nothing
// to give.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	if r.source == nil {
		return 0, io.EOF
	}
	r.base = 0
	n := 0
	for r.err == nil && n < len(p) && (n == 0 || !r.starved()) {
		switch r.phase {
		case atMember:
			r.err = r.member()
			r.base = n
		case atBlock:
			r.err = r.nextBlock(p[:n])
		case inStored:
			n, r.err = r.copyStored(p, n)
		case inCodes:
			n, r.err = r.decode(p, n)
		}
	}
	r.keep(p[:n])
	r.giveBack()
	if n > 0 {
		return n, nil
	}
	return 0, r.err
}

// keep notes what further reads need to know of what this one gave.
func (r *Reader) keep(p []byte) {
	p = p[r.base:]
	r.base = 0
	r.sum = crc32.Update(r.sum, crc32.IEEETable, p)
	r.size += uint32(len(p)) //nolint:gosec // modulo 2^32, as the trailer has it
	if len(p) < window {
		copy(r.history[:], r.history[len(p):])
	} else {
		p = p[len(p)-window:]
	}
	copy(r.history[window-len(p):], p)
	r.known = min(r.known+len(p), window)
}

// starved tells whether going on would wait for the source.
func (r *Reader) starved() bool {
	return r.at == len(r.in) && r.count < 48 && r.source.Buffered() <= len(r.in)
}

// giveBack lets the source know what was taken of it.
func (r *Reader) giveBack() {
	_, _ = r.source.Discard(r.at) // it holds that much
	r.in, r.at = nil, 0
}

// more makes in hold something, waiting for it.
func (r *Reader) more() error {
	r.giveBack()
	if r.source.Buffered() == 0 {
		if _, err := r.source.Peek(1); err != nil {
			return err
		}
	}
	var err error
	r.in, err = r.source.Peek(r.source.Buffered())
	return err
}

// fill takes bytes until there are want bits.
func (r *Reader) fill(want uint) error {
	for r.count < want {
		if r.at == len(r.in) {
			if err := r.more(); err != nil {
				return err
			}
		}
		r.bits |= uint64(r.in[r.at]) << (r.count & 63)
		r.at++
		r.count += 8
	}
	return nil
}

// take gives the next n bits, at most 32. The stream may not end before.
func (r *Reader) take(n uint) (uint32, error) {
	if err := r.fill(n); err != nil {
		return 0, unexpected(err)
	}
	value := uint32(r.bits & (1<<n - 1)) //nolint:gosec // masked
	r.bits >>= n
	r.count -= n
	return value, nil
}

// align drops the rest of a byte, and what is above the bits that count: bytes
// are taken next.
func (r *Reader) align() {
	r.bits >>= r.count & 7
	r.count &^= 7
	r.bits &= 1<<r.count - 1
}

func unexpected(err error) error {
	if err == io.EOF { //nolint:errorlint // an error that wraps it is the source's own
		return io.ErrUnexpectedEOF
	}
	return err
}

// Flags of a member's header.
const (
	flagHeaderSum = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4
)

// member reads a header; io.EOF when the stream ends where one could begin.
func (r *Reader) member() error {
	if err := r.fill(8); err != nil {
		return err
	}
	var sum uint32
	next := func() (byte, error) {
		value, err := r.take(8)
		sum = crc32.Update(sum, crc32.IEEETable, []byte{byte(value)})
		return byte(value), err
	}
	var header [10]byte
	for i := range header {
		var err error
		if header[i], err = next(); err != nil {
			return err
		}
	}
	if header[0] != 0x1f || header[1] != 0x8b || header[2] != 8 {
		return gzip.ErrHeader
	}
	flags := header[3]
	if flags&flagExtra != 0 {
		var size [2]byte
		for i := range size {
			var err error
			if size[i], err = next(); err != nil {
				return err
			}
		}
		for range binary.LittleEndian.Uint16(size[:]) {
			if _, err := next(); err != nil {
				return err
			}
		}
	}
	for _, flag := range []byte{flagName, flagComment} {
		for more := flags&flag != 0; more; {
			c, err := next()
			if err != nil {
				return err
			}
			more = c != 0
		}
	}
	if flags&flagHeaderSum != 0 {
		want := sum & 0xffff
		have, err := r.take(16)
		if err != nil {
			return err
		}
		if have != want {
			return gzip.ErrHeader
		}
	}
	r.phase, r.last = atBlock, false
	r.known, r.sum, r.size = 0, 0, 0
	r.length = 0
	return nil
}

// nextBlock reads a block's header, or after the last block the trailer; p is
// what this Read has given.
func (r *Reader) nextBlock(p []byte) error {
	if r.last {
		return r.trailer(p)
	}
	header, err := r.take(3)
	if err != nil {
		return err
	}
	r.last = header&1 != 0
	switch header >> 1 {
	case 0:
		return r.beginStored()
	case 1:
		r.fixedCodes()
	case 2:
		if err := r.readCodes(); err != nil {
			return err
		}
	default:
		return ErrCorrupt
	}
	r.phase = inCodes
	return nil
}

func (r *Reader) beginStored() error {
	r.align()
	size, err := r.take(16)
	if err != nil {
		return err
	}
	inverted, err := r.take(16)
	if err != nil {
		return err
	}
	if size != ^inverted&0xffff {
		return ErrCorrupt
	}
	r.stored, r.phase = int(size), inStored
	return nil
}

func (r *Reader) copyStored(p []byte, n int) (int, error) {
	for ; r.stored > 0 && n < len(p) && r.count > 0; r.stored-- {
		value, _ := r.take(8) // it is there
		p[n] = byte(value)
		n++
	}
	if r.stored > 0 && n < len(p) {
		if r.at == len(r.in) {
			if err := r.more(); err != nil {
				return n, unexpected(err)
			}
		}
		copied := copy(p[n:min(len(p), n+r.stored)], r.in[r.at:])
		n += copied
		r.at += copied
		r.stored -= copied
	}
	if r.stored == 0 {
		r.phase = atBlock
	}
	return n, nil
}

// trailer compares what came with what the member says it has.
func (r *Reader) trailer(p []byte) error {
	r.keep(p)
	r.align()
	sum, err := r.take(32)
	if err != nil {
		return err
	}
	size, err := r.take(32)
	if err != nil {
		return err
	}
	if sum != r.sum || size != r.size {
		return gzip.ErrChecksum
	}
	r.base, r.known = len(p), 0
	r.phase = atMember
	return nil
}
