package split

import (
	"bytes"
	"errors"
	"io"
)

const (
	// A buffer starts small, since most objects are, and grows with what is read.
	firstBuffer = 16 << 10
	nextBuffer  = 256 << 10
	// headOfLongLine is how much of a line that is too long is kept.
	headOfLongLine = 64 << 10
)

// errPaused says that the allowance was used up before a line ended. Reading
// goes on where it stopped with the next call.
var errPaused = errors.New("reading paused")

// line is one physical line.
type line struct {
	// text without its line end. It belongs to the receiver: the splitter never
	// writes to these bytes again. Of a line that is too long, its first bytes.
	text []byte
	// length of the line without its line end.
	length int64
	// size in the stream, line end and all.
	size int64
	// tooLong is set when length is over the limit.
	tooLong bool
}

// lineReader splits a stream at LF; a CR before it belongs to the line end.
// A last line without a line end counts. Memory is bounded by the limit: what
// is longer is passed over.
//
// Lines are slices of the buffer they were read into. A full buffer is left to
// those lines and a new one begun, so that a line costs no copy and no
// allocation of its own.
type lineReader struct {
	source io.Reader
	limit  int

	buffer     []byte // buffer[start:end] is read and not yet given
	start, end int
	scanned    int  // bytes after start known to hold no LF
	given      bool // a line is a slice of buffer
	err        error

	long    line // the line being passed over, when skipping
	lastCR  bool // its last byte so far is a CR
	skipped bool
}

func newLineReader(source io.Reader, limit int) *lineReader {
	return &lineReader{source: source, limit: limit}
}

// next gives the next line, io.EOF after the last, or the source's error: what
// was read of a line before that error is no line. It gives errPaused once it
// had to read more than allowance bytes for one line.
func (r *lineReader) next(allowance int64) (line, error) {
	for read := int64(0); ; {
		if l, found := r.take(); found {
			return l, nil
		}
		if r.err != nil {
			return r.last()
		}
		if read > allowance {
			return line{}, errPaused
		}
		read += int64(r.fill())
	}
}

// take gives the line that is complete in the buffer, if there is one.
func (r *lineReader) take() (line, bool) {
	waiting := r.buffer[r.start:r.end]
	at := bytes.IndexByte(waiting[r.scanned:], '\n')
	switch {
	case at >= 0:
		at += r.scanned
		r.start += at + 1
		r.scanned = 0
		if r.skipped {
			return r.endLong(waiting[:at], true), true
		}
		l := line{text: waiting[:at:at], size: int64(at) + 1}
		if at > 0 && waiting[at-1] == '\r' {
			l.text = waiting[: at-1 : at-1]
		}
		r.given = true
		return r.measured(l), true
	case r.skipped || len(waiting) > r.limit+1: // one more may be a CR
		r.skip(waiting)
		return line{}, false
	}
	r.scanned = len(waiting)
	return line{}, false
}

// last is what is left when the source has ended.
func (r *lineReader) last() (line, error) {
	waiting := r.buffer[r.start:r.end]
	switch {
	case r.err != io.EOF:
		return line{}, r.err
	case r.skipped:
		r.start = r.end
		return r.endLong(waiting, false), nil
	case len(waiting) == 0:
		return line{}, io.EOF
	}
	r.start, r.scanned = r.end, 0
	return r.measured(line{text: waiting[:len(waiting):len(waiting)], size: int64(len(waiting))}), nil
}

func (r *lineReader) measured(l line) line {
	l.length = int64(len(l.text))
	if len(l.text) > r.limit {
		l.tooLong = true
		l.text = bytes.Clone(l.text[:min(len(l.text), headOfLongLine)])
	}
	return l
}

// skip drops what is waiting of a line that is too long, all but its head.
func (r *lineReader) skip(waiting []byte) {
	if !r.skipped {
		r.skipped = true
		r.long = line{tooLong: true, text: bytes.Clone(waiting[:min(len(waiting), headOfLongLine)])}
		r.lastCR = false
	}
	r.passOver(waiting)
	r.start, r.end, r.scanned = 0, 0, 0
	if r.given || len(r.buffer) > nextBuffer {
		r.buffer, r.given = nil, false
	}
}

func (r *lineReader) passOver(part []byte) {
	if len(part) == 0 {
		return
	}
	if room := headOfLongLine - len(r.long.text); room > 0 && r.long.size > 0 {
		r.long.text = append(r.long.text, part[:min(room, len(part))]...)
	}
	r.long.size += int64(len(part))
	r.lastCR = part[len(part)-1] == '\r'
}

func (r *lineReader) endLong(rest []byte, lineFeed bool) line {
	r.passOver(rest)
	l := r.long
	l.length = l.size
	if lineFeed {
		if r.lastCR {
			l.length--
		}
		l.size++
	}
	l.text = l.text[:min(int64(len(l.text)), l.length)]
	r.skipped, r.long = false, line{}
	return l
}

// fill reads once and tells how many bytes came.
func (r *lineReader) fill() int {
	if r.end == len(r.buffer) {
		r.grow()
	}
	// A reader may give nothing for a while; one that never ends doing so is
	// broken.
	for range 100 {
		n, err := r.source.Read(r.buffer[r.end:])
		r.end += n
		if err != nil {
			r.err = err
			return n
		}
		if n > 0 {
			return n
		}
	}
	r.err = io.ErrNoProgress
	return 0
}

// grow begins a new buffer with what is waiting.
func (r *lineReader) grow() {
	waiting := r.buffer[r.start:r.end]
	size := min(max(firstBuffer, 2*len(r.buffer)), nextBuffer)
	if len(waiting) > size/2 {
		size = min(max(size, 2*len(waiting)), max(r.limit+2, len(waiting)+firstBuffer))
	}
	buffer := make([]byte, max(size, len(waiting)+firstBuffer))
	r.end = copy(buffer, waiting)
	r.start, r.buffer, r.given = 0, buffer, false
}

// compact frees a buffer much larger than what is waiting in it, before the
// stream is left alone for a while.
func (r *lineReader) compact() {
	if len(r.buffer) > 2*nextBuffer && r.end-r.start < len(r.buffer)/4 {
		waiting := r.buffer[r.start:r.end]
		r.buffer = bytes.Clone(waiting)
		r.start, r.end, r.given = 0, len(waiting), false
	}
}

// isBlank tells whether a line holds nothing but white space.
func isBlank(text []byte) bool {
	for _, c := range text {
		if c != ' ' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}
