package split

import (
	"bytes"
	"io"
)

const (
	// A buffer starts small, since most objects are, and grows with what is read.
	firstBuffer = 16 << 10
	nextBuffer  = 256 << 10
)

// window is the part of a stream that is read and not yet given away as lines.
//
// Lines are slices of the buffer they were read into. A full buffer is left to
// those lines and a new one begun, so that a line costs no copy and no
// allocation of its own.
type window struct {
	source io.Reader

	buffer     []byte // buffer[start:end] is read and not yet given
	start, end int
	given      bool // a line is a slice of buffer
	err        error
}

// waiting is what is read and not yet given.
func (w *window) waiting() []byte { return w.buffer[w.start:w.end] }

// fill reads once and tells how many bytes came. A buffer is made no larger
// than limit where that is possible.
func (w *window) fill(limit int) int {
	if w.end == len(w.buffer) {
		w.grow(limit)
	}
	// A reader may give nothing for a while; one that never ends doing so is
	// broken.
	for range 100 {
		n, err := w.source.Read(w.buffer[w.end:])
		w.end += n
		if err != nil {
			w.err = err
			return n
		}
		if n > 0 {
			return n
		}
	}
	w.err = io.ErrNoProgress
	return 0
}

// grow begins a new buffer with what is waiting.
func (w *window) grow(limit int) {
	waiting := w.waiting()
	size := min(max(firstBuffer, 2*len(w.buffer)), nextBuffer)
	if len(waiting) > size/2 {
		size = min(max(size, 2*len(waiting)), max(limit+2, len(waiting)+firstBuffer))
	}
	buffer := make([]byte, max(size, len(waiting)+firstBuffer))
	w.end = copy(buffer, waiting)
	w.start, w.buffer, w.given = 0, buffer, false
}

// drop forgets what is waiting.
func (w *window) drop() {
	w.start, w.end = 0, 0
	if w.given || len(w.buffer) > nextBuffer {
		w.buffer, w.given = nil, false
	}
}

// compact frees a buffer much larger than what is waiting in it, before the
// stream is left alone for a while.
func (w *window) compact() {
	if len(w.buffer) > 2*nextBuffer && w.end-w.start < len(w.buffer)/4 {
		w.buffer = bytes.Clone(w.waiting())
		w.start, w.end, w.given = 0, len(w.buffer), false
	}
}
