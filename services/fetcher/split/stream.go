package split

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/topics"
)

// errCorrupt: the object's bytes are not what they claim to be.
var errCorrupt = errors.New("object corrupt")

// fault is an error of a kind that the reason of a dead letter names. Its text
// does not say the kind once more.
type fault struct{ kind, detail error }

func (f *fault) Error() string { return f.detail.Error() }

func (f *fault) Unwrap() []error { return []error{f.kind, f.detail} }

func faultOf(kind error, format string, arguments ...any) error {
	return &fault{kind, fmt.Errorf(format, arguments...)}
}

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

	cancel    context.CancelCauseFunc // ends a blocked read
	body      *countedBody
	buffer    *bufio.Reader
	form      string   // how it is compressed, or plain
	release   func()   // of the decompressor; nil for a plain object
	content   *bounded // decompressed
	splitting topics.Splitting
	ahead     *readAhead // of content; nil when a small object is read
	lines     splitter
	discard   int64
	counted   int64 // stored bytes that storedSince has told
}

// memory is what streams share.
type memory struct {
	blocks *blocks
	ahead  *ahead
}

// splitter gives the lines of a stream, one after the other.
type splitter interface {
	next(allowance int64) (line, error)
	compact()
	drop()
}

var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}

// opening says how an object is opened.
type opening struct {
	store     objectStore
	lineLimit int
	bounds    bounds
	memory    memory
	ahead     bool // read it ahead
}

// openStream opens the object at its position. ctx bounds the opening, life
// the stream.
func openStream(ctx, life context.Context, object *topics.Object, how opening) (*stream, error) {
	s := &stream{key: keyOf(object)}
	life, s.cancel = context.WithCancelCause(life)
	defer s.interruptAfter(ctx)()

	ref := objectstore.Ref{Bucket: object.Bucket, Key: object.Key, ETag: object.ETag, Version: object.Version, Size: object.Size}
	err := s.open(life, how.store, ref, object.FromByte, how.bounds)
	if err == nil {
		err = s.split(object, how)
	}
	if err != nil {
		if errors.Is(context.Cause(life), errSlow) {
			err = fmt.Errorf("open %s: %w", ref, errSlow)
		}
		s.close()
		return nil, err
	}
	return s, nil
}

// split prepares to split the object as its record says. One that is opened for
// the first time is split as its first bytes say.
func (s *stream) split(object *topics.Object, how opening) error {
	s.splitting = object.Splitting
	first := window{source: s.content, blocks: how.memory.blocks}
	if how.ahead {
		s.ahead = newReadAhead(how.memory.ahead, s.content)
		first.source = s.ahead
	}
	if s.splitting == "" && object.FromByte > 0 {
		s.splitting = topics.SplitLines
	}
	if s.splitting == "" {
		for first.err == nil && first.end <= decisive {
			first.fill(how.lineLimit)
		}
		if first.err != nil && first.err != io.EOF {
			// Where the bytes are to blame they decide as far as they go.
			if err := s.explain(first.err); !errors.Is(err, errCorrupt) {
				return err
			}
		}
		s.splitting = splittingOf(first.buffer[:min(first.end, decisive)], first.end <= decisive)
	}
	if s.splitting == topics.SplitValues {
		s.lines = newValueReader(first, how.lineLimit, object.Inside, object.FromByte == 0)
	} else {
		s.lines = newLineReader(first, how.lineLimit)
	}
	return nil
}

func (s *stream) open(life context.Context, store objectStore, ref objectstore.Ref, fromByte int64, most bounds) error {
	body, err := store.Open(life, ref, 0)
	if err != nil {
		return err
	}
	s.receivedAt = body.LastModified.UnixMilli()
	plain, err := s.decompress(body, most)
	s.discard = fromByte
	if err != nil || !plain || fromByte < worthRange {
		return err
	}
	_ = body.Close() // only its first bytes were wanted
	if body, err = store.Open(life, ref, fromByte); err != nil {
		return err
	}
	s.body.ReadCloser, s.discard, s.content.given = body, 0, fromByte
	s.buffer.Reset(s.body)
	return nil
}

// decompress makes the stored bytes the stream's content, decompressed when they
// are compressed.
func (s *stream) decompress(stored io.ReadCloser, most bounds) (plain bool, err error) {
	s.body = &countedBody{ReadCloser: stored}
	s.buffer = buffers.Get().(*bufio.Reader) //nolint:forcetypeassert // it holds nothing else
	s.buffer.Reset(s.body)
	s.content, s.form = &bounded{Reader: s.buffer, bounds: most}, "plain"

	magic, err := s.buffer.Peek(longestMagic)
	if err != nil && err != io.EOF {
		return false, err
	}
	for _, form := range compressions {
		if form.magic(magic) {
			s.form = form.name
			s.content.Reader, s.release, err = form.reader(s.buffer)
			s.content.stored = func() int64 { return s.body.bytes.Load() - int64(s.buffer.Buffered()) }
			return false, s.explain(err)
		}
	}
	return true, nil
}

// storedSince is how many stored bytes came since it was asked last.
func (s *stream) storedSince() int64 {
	now := s.body.bytes.Load()
	n := now - s.counted
	s.counted = now
	return n
}

// advance reads towards the position that the stream was opened at, a bounded
// step of the way.
func (s *stream) advance() error {
	n, err := io.CopyN(io.Discard, s.source(), min(s.discard, advanceStep))
	s.discard -= n
	if err == errPaused { //nolint:errorlint // bare, by contract
		return nil
	}
	if err == io.EOF {
		err = faultOf(errCorrupt, "it ends %d bytes before where it was left", s.discard)
	}
	return s.explain(err)
}

func (s *stream) source() io.Reader {
	if s.ahead != nil {
		return s.ahead
	}
	return s.content
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
	case errors.Is(err, errCorrupt), errors.Is(err, errTooLarge):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return faultOf(errCorrupt, "its %s data ends in the middle", s.form)
	}
	// Some decompressors say their name themselves.
	return faultOf(errCorrupt, "its %s data is broken: %s", s.form, strings.TrimPrefix(err.Error(), s.form+": "))
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
	if s.ahead != nil {
		s.ahead.close()
	}
	if s.lines != nil {
		s.lines.drop()
	}
	if s.body != nil {
		_ = s.body.Close() // only read from
	}
	if s.release != nil {
		s.release()
		s.release = nil
	}
	if s.buffer != nil {
		s.buffer.Reset(nil)
		buffers.Put(s.buffer)
		s.buffer = nil
	}
}

// countedBody counts the stored bytes and keeps the store's error, which a
// decompressor might hide.
type countedBody struct {
	io.ReadCloser
	bytes atomic.Int64
	err   error // to look at once Read has given it on
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes.Add(int64(n))
	if err != nil {
		b.err = err
	}
	return n, err
}
