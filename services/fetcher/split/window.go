package split

import (
	"bytes"
	"io"
)

// firstBuffer is the least that a buffer grows by.
const firstBuffer = 16 << 10

// window is the part of a stream that is read and not yet given away as lines.
//
// Lines are slices of the buffer they were read into. A full buffer is left to
// those lines and a new one begun, so that a line costs no copy and no
// allocation of its own. Buffers are blocks on loan, but for what is larger.
type window struct {
	source io.Reader
	blocks *blocks

	block      *block // whose memory buffer is; nil when it is our own
	buffer     []byte // buffer[start:end] is read and not yet given
	start, end int
	err        error
}

// waiting is what is read and not yet given.
func (w *window) waiting() []byte { return w.buffer[w.start:w.end] }

// fill reads once and tells how many bytes came, or that the source has none yet
// and there is no time to wait for them. A buffer is made no larger than limit
// where that is possible.
func (w *window) fill(limit int) (n int, paused bool) {
	if w.end == len(w.buffer) {
		w.grow(limit)
	}
	// A reader may give nothing for a while; one that never ends doing so is
	// broken.
	for range 100 {
		n, err := w.source.Read(w.buffer[w.end:])
		w.end += n
		if err == errPaused { //nolint:errorlint // bare, by contract
			return n, true
		}
		if err != nil {
			w.err = err
			return n, false
		}
		if n > 0 {
			return n, false
		}
	}
	w.err = io.ErrNoProgress
	return 0, false
}

// grow begins a new buffer with what is waiting.
func (w *window) grow(limit int) {
	waiting, old, start := w.waiting(), w.block, w.start
	if need := len(waiting) + firstBuffer; need <= blockSize {
		next := w.blocks.take()
		for len(next.data)-next.used < need {
			w.blocks.put(next, len(next.data)) // too little is left of it
			next = w.blocks.take()
		}
		w.block, w.buffer = next, next.data[next.used:]
	} else {
		size := min(2*len(waiting), max(limit+2, need))
		w.block, w.buffer = nil, make([]byte, max(size, need))
	}
	w.start, w.end = 0, copy(w.buffer, waiting)
	if old != nil {
		// What was waiting has moved, so only what was given is used.
		w.blocks.put(old, start)
	}
}

// drop forgets what is waiting.
func (w *window) drop() {
	if w.block != nil {
		w.blocks.put(w.block, w.start)
	}
	w.block, w.buffer = nil, nil
	w.start, w.end = 0, 0
}

// compact frees a buffer much larger than what is waiting in it, before the
// stream is left alone for a while.
func (w *window) compact() {
	if w.block == nil && len(w.buffer) > 2*blockSize && w.end-w.start < len(w.buffer)/4 {
		w.buffer = bytes.Clone(w.waiting())
		w.start, w.end = 0, len(w.buffer)
	}
}
