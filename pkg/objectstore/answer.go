package objectstore

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// accept compares an answer with what was asked for, and learns from the first
// one what wasn't known. What an earlier answer or the caller said is never
// overwritten: a later answer is for the rest of the same content.
func (b *Body) accept(out *s3.GetObjectOutput) error {
	if etag := bareETag(aws.ToString(out.ETag)); b.ref.ETag == "" {
		b.ref.ETag = etag // what goes on must be what was begun
	} else if etag != "" && etag != b.ref.ETag {
		// Not every store heeds If-Match.
		return fmt.Errorf("%w: etag is %s, not %s", ErrChanged, etag, b.ref.ETag)
	}
	size := int64(-1)
	if out.ContentLength != nil {
		size = *out.ContentLength + b.offset
	}
	if b.offset > 0 {
		if out.ContentRange == nil {
			return fmt.Errorf("the store ignores Range (asked for byte %d)", b.offset)
		}
		from, total, err := parseContentRange(*out.ContentRange)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if from != b.offset {
			return fmt.Errorf("%w: it answers from byte %d, and byte %d was asked for", ErrUnavailable, from, b.offset)
		}
		if total >= 0 {
			size = total // of the object, however much of it this answer has
		}
	}
	switch known := b.known(); {
	case known >= 0 && size >= 0 && size != known && (b.described || !b.confirms(size)):
		return fmt.Errorf("%w: it answers with %d bytes of %d", ErrUnavailable, size, known)
	case known >= 0 && size < 0:
		size = known
	case size < 0:
		// Who doesn't say how much there is may end anywhere.
		if out, err := b.head(); err == nil && out.ContentLength != nil {
			size = *out.ContentLength
		}
	}
	if !b.described {
		b.describe(out.LastModified, size)
	}
	b.Size = size
	return nil
}

// confirms asks the store whether it is the answer that is right on the object's
// size, and not what was told of it: some notifications tell how many bytes
// an object takes where it is stored, compressed or encrypted.
func (b *Body) confirms(size int64) bool {
	out, err := b.head()
	if err != nil || out.ContentLength == nil || *out.ContentLength != size {
		return false
	}
	if etag := bareETag(aws.ToString(out.ETag)); etag != "" && etag != b.ref.ETag {
		return false
	}
	b.store.log.Info("the store says another size of an object than was told", "object", b.ref.String(), "size", size, "told", b.ref.Size)
	b.ref.Size = size
	return true
}

// known is how many bytes the object has, below zero before anyone has said so.
func (b *Body) known() int64 {
	switch {
	case b.ref.Size > 0:
		return b.ref.Size
	case b.described:
		return b.Size
	}
	return -1
}

// parseContentRange reads "bytes 100-199/1000"; total is below zero when it is
// "*".
func parseContentRange(text string) (from, total int64, err error) {
	malformed := fmt.Errorf("it answers with the range %q", text)
	span, ok := strings.CutPrefix(text, "bytes ")
	if !ok {
		return 0, 0, malformed
	}
	span, totalText, ok := strings.Cut(span, "/")
	if !ok {
		return 0, 0, malformed
	}
	fromText, _, ok := strings.Cut(span, "-")
	if !ok {
		return 0, 0, malformed
	}
	if from, err = strconv.ParseInt(strings.TrimSpace(fromText), 10, 64); err != nil {
		return 0, 0, malformed
	}
	if totalText = strings.TrimSpace(totalText); totalText == "*" {
		return from, -1, nil
	}
	if total, err = strconv.ParseInt(totalText, 10, 64); err != nil || total < from {
		return 0, 0, malformed
	}
	return from, total, nil
}
