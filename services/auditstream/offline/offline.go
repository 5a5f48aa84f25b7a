// Package offline normalizes files without the pipeline: lines in, rows as JSON
// lines out, rejected lines with their reasons beside. It is `auditstream
// normalize`, to try a configuration on a log, or to find out why a line became
// a dead letter.
package offline

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/services/fetcher/split"
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
	Limits     split.Limits  // of lines and inputs, as the fetcher has them
	Rows       io.Writer     // JSON lines
	Rejections io.Writer     // "name:line: reason: detail"
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
	if options.Source == nil || options.Limits.Line <= 0 || options.Rows == nil || options.Rejections == nil {
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

// Normalize reads one input to its end, as the fetcher reads an object. What
// can't be read of it is a rejection with the number of the line that would have
// come next; the error is that of a writer or of ctx.
func (n *Normalizer) Normalize(ctx context.Context, input Input) error {
	object := identity.ObjectID(endpointAlias, "", input.Name, "")
	lines := split.NewReader(input.Reader, n.options.Limits)
	defer lines.Close()
	last := int64(0)
	for {
		line, err := lines.Next()
		if errors.Is(err, io.EOF) {
			if n.options.Explain > last {
				n.reject(input.Name, n.options.Explain, "no such line", fmt.Sprintf("the last one is %d", last))
			}
			return n.Flush()
		}
		if err != nil {
			n.reject(input.Name, last+1, string(split.ReasonOf(err)), fmt.Sprintf("%s, after %s", err, digits.Of(last, "whole line")))
			return n.Flush()
		}
		last = line.Number
		if last%cancelCheck == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if n.options.Explain > 0 && last != n.options.Explain {
			continue
		}
		n.lines++
		if line.TooLong {
			n.reject(input.Name, last, string(topics.ReasonLineTooLong), fmt.Sprintf("longer than %d bytes", n.options.Limits.Line))
			continue
		}
		n.line(input, object, last, line.Text)
		if n.rows.err != nil {
			return n.rows.err
		}
	}
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
