package split

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/topics"
)

// errCorrupt: the object's bytes are not what they claim to be.
var errCorrupt = errors.New("object corrupt")

// errSlow: the store gave too little in the time that one piece of work has.
var errSlow = errors.New("reading took too long")

const (
	readBuffer = 64 << 10
	// worthRange is from how many bytes on a plain object is asked for in its
	// middle instead of being read from the start.
	worthRange  = 1 << 20
	advanceStep = 4 << 20
)

// objectStore opens objects; *objectstore.Store is one.
type objectStore interface {
	Open(ctx context.Context, ref objectstore.Ref, fromByte int64) (*objectstore.Body, error)
	Probe(ctx context.Context, bucket, prefix string) error
	Alias() string
}

// streamKey is a place in an object. A stream is found by the place where it
// stands, so a link can never go on in a stream that stands elsewhere.
type streamKey struct {
	id         string
	generation int
	line, byte int64
}

func keyOf(o *topics.Object) streamKey {
	return streamKey{o.ID, o.Generation, o.FromLine, o.FromByte}
}

// stream is an open object. It stands at the start of a line, or is on its way
// there: discard bytes are left, or lines is within a line that is too long.
type stream struct {
	key        streamKey
	partition  int32
	receivedAt int64 // ms

	cancel  context.CancelCauseFunc // ends a blocked read
	body    *countedBody
	buffer  *bufio.Reader
	gzip    *gzip.Reader // nil for a plain object
	content io.Reader    // decompressed
	lines   *lineReader
	discard int64
}

var (
	buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}
	gunzips sync.Pool // of *gzip.Reader
)

// openStream opens the object at its position. ctx bounds the opening, life
// the stream.
func openStream(ctx, life context.Context, store objectStore, object *topics.Object, lineLimit int) (*stream, error) {
	s := &stream{key: keyOf(object)}
	life, s.cancel = context.WithCancelCause(life)
	defer s.interruptAfter(ctx)()

	ref := objectstore.Ref{Bucket: object.Bucket, Key: object.Key, ETag: object.ETag, Version: object.Version}
	if err := s.open(life, store, ref, object.FromByte); err != nil {
		if errors.Is(context.Cause(life), errSlow) {
			err = fmt.Errorf("open %s: %w", ref, errSlow)
		}
		s.close()
		return nil, err
	}
	s.lines = newLineReader(s.content, lineLimit)
	return s, nil
}

func (s *stream) open(life context.Context, store objectStore, ref objectstore.Ref, fromByte int64) error {
	body, err := store.Open(life, ref, 0)
	if err != nil {
		return err
	}
	s.body = &countedBody{Body: body}
	s.receivedAt = body.LastModified.UnixMilli()
	s.buffer = buffers.Get().(*bufio.Reader) //nolint:forcetypeassert // it holds nothing else
	s.buffer.Reset(s.body)
	s.content, s.discard = s.buffer, fromByte

	magic, err := s.buffer.Peek(3)
	if err != nil && err != io.EOF {
		return err
	}
	if isGzip(magic) {
		if s.gzip, _ = gunzips.Get().(*gzip.Reader); s.gzip == nil {
			s.gzip = new(gzip.Reader)
		}
		s.content = s.gzip
		return s.explain(s.gzip.Reset(s.buffer))
	}
	if fromByte < worthRange {
		return nil
	}
	_ = body.Close() // only its first bytes were wanted
	if body, err = store.Open(life, ref, fromByte); err != nil {
		return err
	}
	s.body.Body, s.discard = body, 0
	s.buffer.Reset(s.body)
	return nil
}

// isGzip tells by content: names lie, and buckets are full of both.
func isGzip(magic []byte) bool {
	return len(magic) == 3 && magic[0] == 0x1f && magic[1] == 0x8b && magic[2] == 8
}

// advance reads towards the position that the stream was opened at, a bounded
// step of the way.
func (s *stream) advance() error {
	n, err := io.CopyN(io.Discard, s.content, min(s.discard, advanceStep))
	s.discard -= n
	if err == io.EOF {
		err = fmt.Errorf("%w: it ends %d bytes before where it was left", errCorrupt, s.discard)
	}
	return s.explain(err)
}

// next gives the next line; see lineReader.next. Its errors, but for io.EOF and
// errPaused, are the store's own, errCorrupt, or errSlow.
func (s *stream) next(allowance int64) (line, error) {
	l, err := s.lines.next(allowance)
	if err != nil && err != io.EOF && err != errPaused { //nolint:errorlint // these two come bare
		err = s.explain(err)
	}
	return l, err
}

// explain tells whose fault an error is: the store's, whose errors say so, or
// that of the bytes it gave.
func (s *stream) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case s.body.err != nil && s.body.err != io.EOF:
		return s.body.err
	case errors.Is(err, errCorrupt):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ends in the middle of its compressed data", errCorrupt)
	}
	return fmt.Errorf("%w: %w", errCorrupt, err)
}

// interruptAfter ends whatever read the stream is blocked in, and with it the
// stream, when ctx ends before the returned function is called.
func (s *stream) interruptAfter(ctx context.Context) (done func() bool) {
	return context.AfterFunc(ctx, func() { s.cancel(errSlow) })
}

// park prepares the stream to be left alone for a while.
func (s *stream) park(object *topics.Object) {
	s.key = keyOf(object)
	s.lines.compact()
}

func (s *stream) close() {
	s.cancel(context.Canceled)
	if s.body != nil {
		_ = s.body.Close() // only read from
	}
	if s.buffer != nil {
		s.buffer.Reset(nil)
		buffers.Put(s.buffer)
		s.buffer = nil
	}
	if s.gzip != nil {
		gunzips.Put(s.gzip)
		s.gzip = nil
	}
}

// countedBody counts the stored bytes and keeps the store's error, which a
// decompressor might hide.
type countedBody struct {
	*objectstore.Body
	bytes int64
	err   error
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	b.bytes += int64(n)
	if err != nil {
		b.err = err
	}
	return n, err
}
