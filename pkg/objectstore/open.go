package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/auditstream/auditstream/pkg/delay"
)

const (
	// resumeTries bounds how often a read goes on without a byte between two breaks.
	resumeTries       = 4
	resumeBackoff     = 100 * time.Millisecond
	resumeBackoffMost = 2 * time.Second
)

// Ref names one content of an object. With Version it is that version, else
// what has ETag; without both, whatever is there now.
type Ref struct {
	Bucket, Key string
	ETag        string // quotes around it don't matter
	Version     string
	// Size in bytes, as far as it was told; zero: it was not. An answer with fewer
	// is no answer, as what stands between us and the store may have cut it, unless
	// the store confirms them.
	Size int64
}

func (r Ref) String() string { return "s3://" + r.Bucket + "/" + r.Key }

// Body is an object's bytes as they are stored. When the connection breaks or
// stalls in the middle, Read asks for the rest from the same byte of the same
// content; its errors are those of the package, and are final.
type Body struct {
	LastModified time.Time // when the store received the object
	Size         int64     // of the whole object; below zero as long as the store doesn't say
	ETag         string    // without quotes
	described    bool      // the above are known, and don't change

	store  *Store
	ctx    context.Context // of the whole life of the body: Read has none of its own
	ref    Ref
	offset int64 // of the next byte in the object
	err    error

	body   io.ReadCloser
	cancel context.CancelFunc // of the request under way
	stall  *time.Timer
}

// Open opens the object at fromByte. The body lives until Close or the end of
// ctx. Open at the object's size gives an empty body.
func (s *Store) Open(ctx context.Context, ref Ref, fromByte int64) (*Body, error) {
	ref.ETag = bareETag(ref.ETag)
	b := &Body{store: s, ctx: ctx, ref: ref, offset: fromByte}
	if err := b.request(); err != nil {
		return nil, fmt.Errorf("open %s at byte %d: %w", ref, fromByte, err)
	}
	return b, nil
}

// request asks for the bytes from b.offset on.
func (b *Body) request() error {
	input := &s3.GetObjectInput{Bucket: aws.String(b.ref.Bucket), Key: aws.String(b.ref.Key)}
	if b.ref.Version != "" {
		input.VersionId = aws.String(b.ref.Version)
	}
	if b.ref.ETag != "" {
		input.IfMatch = aws.String(`"` + b.ref.ETag + `"`)
	}
	if b.offset > 0 {
		input.Range = aws.String("bytes=" + strconv.FormatInt(b.offset, 10) + "-")
	}
	ctx, cancel := context.WithCancel(b.ctx)
	var out *s3.GetObjectOutput
	err := b.store.ask(ctx, b.ref.Bucket, b.ref.Key, func(client *s3.Client, payer types.RequestPayer) (err error) {
		input.RequestPayer = payer
		out, err = client.GetObject(ctx, input)
		return err
	})
	if err != nil {
		cancel()
		if b.offset > 0 && isRangeBeyondEnd(err) {
			return b.requestEnd()
		}
		return classify(err)
	}
	if err := b.accept(out); err != nil {
		cancel()
		_ = out.Body.Close() // nothing was read from it
		return err
	}
	b.body, b.cancel = out.Body, cancel
	b.stall = time.AfterFunc(b.store.stallTimeout, cancel)
	b.stall.Stop()
	return nil
}

// requestEnd opens an object at its end, where there is no byte to ask for.
func (b *Body) requestEnd() error {
	out, err := b.head()
	if err != nil {
		return classify(err)
	}
	size := aws.ToInt64(out.ContentLength)
	if size != b.offset {
		return fmt.Errorf("%w: it has %d bytes, and byte %d was asked for", ErrChanged, size, b.offset)
	}
	if !b.described {
		b.describe(out.LastModified, size)
	}
	b.err = io.EOF
	return nil
}

// head asks for what the store says of the content.
func (b *Body) head() (out *s3.HeadObjectOutput, err error) {
	input := &s3.HeadObjectInput{Bucket: aws.String(b.ref.Bucket), Key: aws.String(b.ref.Key)}
	if b.ref.Version != "" {
		input.VersionId = aws.String(b.ref.Version)
	}
	if b.ref.ETag != "" {
		input.IfMatch = aws.String(`"` + b.ref.ETag + `"`)
	}
	err = b.store.ask(b.ctx, b.ref.Bucket, b.ref.Key, func(client *s3.Client, payer types.RequestPayer) (err error) {
		input.RequestPayer = payer
		out, err = client.HeadObject(b.ctx, input)
		return err
	})
	return out, err
}

func (b *Body) describe(lastModified *time.Time, size int64) {
	b.LastModified, b.Size, b.ETag, b.described = aws.ToTime(lastModified).UTC(), size, b.ref.ETag, true
}

// Offset of the next byte that Read gives.
func (b *Body) Offset() int64 { return b.offset }

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	var cause error // of the last break
	for try := 0; b.err == nil; try++ {
		if b.body != nil {
			b.stall.Reset(b.store.stallTimeout)
			n, err := b.body.Read(p)
			stalled := !b.stall.Stop()
			b.offset += int64(n)
			if err == io.EOF && b.offset >= b.Size {
				b.err = io.EOF
				return n, nil
			}
			if err == nil && !stalled {
				return n, nil
			}
			b.closeRequest()
			if n > 0 {
				return n, nil // the next Read goes on from there
			}
			if cause = err; stalled {
				cause = fmt.Errorf("no byte for %s", b.store.stallTimeout)
			}
		}
		cause, b.err = b.resume(try, cause)
	}
	return 0, b.err
}

// resume asks again from where the body broke, for cause (nil when that was at
// the end of the last Read). The first error is why it did not work this time,
// the second one is final.
func (b *Body) resume(try int, cause error) (again, final error) {
	wrap := func(err error) error { return fmt.Errorf("read %s at byte %d: %w", b.ref, b.offset, err) }
	switch {
	case b.ctx.Err() != nil:
		return nil, wrap(context.Cause(b.ctx))
	case b.Size == b.offset:
		return nil, io.EOF // only the end itself was missing
	case try >= resumeTries:
		return nil, wrap(fmt.Errorf("%w: broke %d times: %w", ErrUnavailable, try, cause))
	}
	b.store.onResume(cause)
	b.store.log.Debug("reading goes on after a break", "object", b.ref.String(), "byte", b.offset, "cause", cause)
	if try > 0 {
		wait := min(resumeBackoff<<try, resumeBackoffMost)
		if !delay.For(b.ctx, wait/2+rand.N(wait/2)) {
			return nil, wrap(context.Cause(b.ctx))
		}
	}
	err := b.request()
	if err == nil || errors.Is(err, ErrUnavailable) {
		return err, nil
	}
	return nil, wrap(err)
}

func (b *Body) closeRequest() {
	if b.body == nil {
		return
	}
	b.stall.Stop()
	b.cancel()
	_ = b.body.Close() // a body that is read no further has nothing to tell
	b.body = nil
}

// Close ends the body. It must not run beside Read; to interrupt a Read, end
// the context.
func (b *Body) Close() error {
	b.closeRequest()
	if b.err == nil {
		b.err = io.ErrClosedPipe
	}
	return nil
}

func bareETag(etag string) string { return strings.Trim(etag, `"`) }
