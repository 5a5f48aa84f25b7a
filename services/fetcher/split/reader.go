package split

import (
	"context"
	"errors"
	"io"
	"math"

	"github.com/auditstream/auditstream/topics"
)

// Limits bound what is read of an object. Those at zero bound nothing.
type Limits struct {
	Line      int   // bytes; a line is at most as long
	Size      int64 // bytes that an object decompresses to
	Expansion int64 // times the stored bytes that it decompresses to
}

// Line is one line of an object, numbered as in the row ids.
type Line struct {
	Number  int64
	Text    []byte // without its line end; valid until the next one is read
	TooLong bool   // over the limit; Text is how it begins
}

// Reader gives the lines of an object that is at hand. It decompresses, splits
// and counts as the fetcher does, by the same code: what it says of a file holds
// for the object that the file becomes.
type Reader struct {
	stream stream
	memory memory
	number int64
	err    error
}

// NewReader reads from source; what is wrong with its first bytes is told by
// Next. It has to be closed; the source remains the caller's.
func NewReader(source io.Reader, limits Limits) *Reader {
	for _, limit := range []*int64{&limits.Size, &limits.Expansion} {
		if *limit <= 0 {
			*limit = math.MaxInt64
		}
	}
	if limits.Line <= 0 {
		limits.Line = math.MaxInt32
	}
	r := &Reader{memory: memory{blocks: new(blocks)}}
	r.stream.cancel = func(error) {}
	if _, r.err = r.stream.decompress(io.NopCloser(source), bounds{limits.Size, limits.Expansion}); r.err == nil {
		r.err = r.stream.split(new(topics.Object), opening{lineLimit: limits.Line, memory: r.memory})
	}
	return r
}

// Next gives the next line and io.EOF after the last. Of what breaks off, it
// gives the lines before the break and then the reason; ReasonOf names it.
func (r *Reader) Next() (Line, error) {
	if r.err != nil {
		return Line{}, r.err
	}
	r.memory.blocks.committed() // the lines given so far are done with
	next, err := r.stream.next(math.MaxInt64)
	if err != nil {
		r.err = err
		return Line{}, err
	}
	r.number++
	return Line{Number: r.number, Text: next.text, TooLong: next.tooLong}, nil
}

// Close frees what the reader holds.
func (r *Reader) Close() {
	if r.err == nil {
		r.err = context.Canceled
	}
	r.stream.close()
}

// ReasonOf says what the fetcher calls an error of Next in a dead letter. Errors
// of the source itself are those of a store that does not give the object.
func ReasonOf(err error) topics.Reason {
	switch {
	case errors.Is(err, errTooLarge):
		return topics.ReasonObjectTooLarge
	case errors.Is(err, errCorrupt):
		return topics.ReasonObjectCorrupt
	}
	return topics.ReasonObjectUnavailable
}
