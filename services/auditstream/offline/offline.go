// Package offline normalizes files without the pipeline: lines in, rows as JSON
// lines out, rejected lines with their reasons beside. It is `auditstream
// normalize`, to try a configuration on a log, or to find out why a line became
// a dead letter.
package offline

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/topics"
)

// endpointAlias stands where the alias of an S3 endpoint stands in the
// pipeline, so that no id made here is that of a row in a table.
const endpointAlias = "offline"

// cancelCheck is after how many lines a cancelled context is noticed.
const cancelCheck = 1024

// Options of Normalize.
type Options struct {
	Source     *audit.Source
	Locator    audit.Locator // may be nil
	LineLimit  int
	Rows       io.Writer // JSON lines
	Rejections io.Writer // "name:line: reason: detail"
	// Explain writes, instead of rows, for this line of each input where every
	// column came from; the other lines are passed over. 0: rows.
	Explain int64
}

// Input is one file.
type Input struct {
	Name       string // in rejections and, through the object id, in row ids
	Reader     io.Reader
	ReceivedAt int64 // ms
}

// Normalizer normalizes one input after another.
type Normalizer struct {
	options    Options
	normalizer *audit.Normalizer
	rows       *rowWriter
	rejections *bufio.Writer

	lines, events, rejected int64
	reasons                 map[string]int64 // of rejections and skips
}

// New returns a normalizer.
func New(options Options) (*Normalizer, error) {
	if options.Source == nil || options.LineLimit <= 0 || options.Rows == nil || options.Rejections == nil {
		return nil, errors.New("normalize: a source, a line limit and two writers are needed")
	}
	return &Normalizer{
		options:    options,
		normalizer: audit.NewNormalizer(options.Locator),
		rows:       newRowWriter(options.Rows),
		rejections: bufio.NewWriter(options.Rejections),
		reasons:    make(map[string]int64),
	}, nil
}

// Lines counts what was read.
func (n *Normalizer) Lines() int64 { return n.lines }

// Events counts the rows written.
func (n *Normalizer) Events() int64 { return n.events }

// Rejected counts lines, items of lines, and inputs that broke off.
func (n *Normalizer) Rejected() int64 { return n.rejected }

// Reasons counts rejections and skips ("skipped: blank") by reason.
func (n *Normalizer) Reasons() map[string]int64 { return n.reasons }

// Normalize reads one input to its end. What can't be read of it is a
// rejection; the error is that of a writer or of ctx.
func (n *Normalizer) Normalize(ctx context.Context, input Input) error {
	number := int64(0)
	plain, err := decompressed(input.Reader)
	if err == nil {
		object := identity.ObjectID(endpointAlias, "", input.Name, "")
		lines := &lineReader{reader: plain, limit: n.options.LineLimit}
		for {
			var text []byte
			var tooLong bool
			if text, tooLong, err = lines.next(); err != nil {
				break
			}
			number++
			if number%cancelCheck == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if n.options.Explain > 0 && number != n.options.Explain {
				continue
			}
			n.lines++
			if tooLong {
				n.reject(input.Name, number, string(topics.ReasonLineTooLong), fmt.Sprintf("longer than %d bytes", n.options.LineLimit))
				continue
			}
			n.line(input, object, number, text)
			if n.rows.err != nil {
				return n.rows.err
			}
		}
	}
	if !errors.Is(err, io.EOF) {
		n.reject(input.Name, number+1, string(topics.ReasonObjectCorrupt), err.Error())
	}
	return n.Flush()
}

func (n *Normalizer) line(input Input, object string, number int64, text []byte) {
	line := audit.Line{Bytes: text, ObjectID: object, Number: number, ReceivedAt: input.ReceivedAt}
	var result audit.Result
	if n.options.Explain > 0 {
		result = n.explain(n.options.Source, line)
	} else {
		result = n.normalizer.Normalize(n.options.Source, line, func(row *event.Row) {
			n.events++
			n.rows.write(row)
		})
	}
	for _, skip := range result.Skips {
		n.reasons["skipped: "+string(skip.Reason)] += int64(skip.Count)
	}
	for i := range result.Rejections {
		rejection := &result.Rejections[i]
		n.reject(input.Name, number, string(rejection.Reason), rejection.Detail)
	}
}

func (n *Normalizer) reject(name string, line int64, reason, detail string) {
	n.rejected++
	n.reasons[reason]++
	// Kept by the writer until Flush.
	_, _ = fmt.Fprintf(n.rejections, "%s:%d: %s: %s\n", name, line, reason, detail)
}

// Flush writes what is buffered.
func (n *Normalizer) Flush() error {
	return errors.Join(n.rows.flush(), n.rejections.Flush())
}

// decompressed tells gzip by its first bytes, whatever the name says.
func decompressed(reader io.Reader) (*bufio.Reader, error) {
	raw := bufio.NewReaderSize(reader, 64<<10)
	magic, err := raw.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return raw, nil
	}
	plain, err := gzip.NewReader(raw)
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", noEOF(err))
	}
	return bufio.NewReaderSize(gzipReader{plain}, 256<<10), nil
}

// gzipReader says that an error is the compression's.
type gzipReader struct{ *gzip.Reader }

func (r gzipReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader's contract
		err = fmt.Errorf("gzip: %w", err)
	}
	return n, err
}

// noEOF makes an end where none may be an error of its own.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// lineReader splits at LF as the fetcher does: a CR before it belongs to the
// line end, a last line without one counts, what is over the limit is passed over.
type lineReader struct {
	reader *bufio.Reader
	limit  int
	buffer []byte
}

// next returns a line, valid until the following call, and whether it is too
// long; then only its start is there. After the last line it returns io.EOF.
func (r *lineReader) next() (text []byte, tooLong bool, err error) {
	r.buffer = r.buffer[:0]
	for {
		part, err := r.reader.ReadSlice('\n')
		if len(r.buffer)+len(part) <= r.limit+2 { // room for CR LF
			r.buffer = append(r.buffer, part...)
		} else {
			tooLong = true
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && (len(r.buffer) > 0 || tooLong):
			return r.buffer, tooLong || len(r.buffer) > r.limit, nil
		case err != nil:
			return nil, false, err
		}
		text = bytes.TrimSuffix(r.buffer, []byte("\n"))
		if !tooLong {
			text = bytes.TrimSuffix(text, []byte("\r"))
		}
		return text, tooLong || len(text) > r.limit, nil
	}
}
