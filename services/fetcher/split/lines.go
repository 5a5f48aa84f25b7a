package split

import (
	"bytes"
	"errors"
	"io"

	"github.com/auditstream/auditstream/topics"
)

// headOfLongLine is how much of a line that is too long is kept.
const headOfLongLine = 64 << 10

// errPaused says that the allowance was used up, or the time to wait for bytes,
// before a line ended. Reading goes on where it stopped with the next call.
var errPaused = errors.New("reading paused")

// line is one physical line, or what takes its place in SplitValues.
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
	// inside is where reading goes on after it.
	inside topics.Inside
}

// lineReader splits a stream at LF; a CR before it belongs to the line end.
// A last line without a line end counts. Memory is bounded by the limit: what
// is longer is passed over.
type lineReader struct {
	window
	limit   int
	scanned int // bytes after start known to hold no LF

	long    line // the line being passed over, when skipping
	lastCR  bool // its last byte so far is a CR
	skipped bool
}

func newLineReader(from window, limit int) *lineReader {
	return &lineReader{window: from, limit: limit}
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
		n, paused := r.fill(r.limit)
		if paused {
			return line{}, errPaused
		}
		read += int64(n)
	}
}

// take gives the line that is complete in the buffer, if there is one.
func (r *lineReader) take() (line, bool) {
	waiting := r.waiting()
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
		return measured(l, r.limit), true
	case r.skipped || len(waiting) > r.limit+1: // one more may be a CR
		r.skip(waiting)
		return line{}, false
	}
	r.scanned = len(waiting)
	return line{}, false
}

// last is what is left when the source has ended.
func (r *lineReader) last() (line, error) {
	waiting := r.waiting()
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
	return measured(line{text: waiting[:len(waiting):len(waiting)], size: int64(len(waiting))}, r.limit), nil
}

func measured(l line, limit int) line {
	l.length = int64(len(l.text))
	if len(l.text) > limit {
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
	r.scanned = 0
	r.drop()
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

// isBlank tells whether a line holds nothing but white space.
func isBlank(text []byte) bool {
	for _, c := range text {
		if c != ' ' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}
