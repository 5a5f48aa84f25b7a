package generate

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/klauspost/compress/gzip"
)

// ObjectsOptions say what WriteObjects makes.
type ObjectsOptions struct {
	Options
	Events int // lines that are events, over all objects
	// Objects they are spread over; 0: one for every 2,500 events.
	Objects int
	// Corrupt objects come on top: gzip in name and header, garbage inside.
	Corrupt int
	Prefix  string // of the keys
}

// Object is one object of newline-delimited lines, compressed.
type Object struct {
	Key     string
	Body    []byte // valid until the next object is made
	Lines   []Kind // what line 1, 2, … should become; likewise
	Corrupt bool   // can't be read; one dead letter for the whole of it
}

// Totals of what was written.
type Totals struct {
	Objects, Corrupt   int
	Events, Bad, Blank int
	Bytes, Compressed  int64
}

// linesPerObject when the number of objects isn't given.
const linesPerObject = 2500

// WriteObjects makes gzip objects and gives each to put. Their sizes differ, and
// unless a shape is asked for, each has that of another shipper.
func WriteObjects(ctx context.Context, options ObjectsOptions, put func(context.Context, Object) error) (Totals, error) {
	var totals Totals
	if options.Objects == 0 {
		options.Objects = max((options.Events+linesPerObject-1)/linesPerObject, 1)
	}
	if options.Events < 1 || options.Objects < 1 || options.Corrupt < 0 || options.Objects > options.Events {
		return totals, fmt.Errorf("generate: %d events in %d objects: want at least one event in each", options.Events, options.Objects)
	}
	g, err := New(options.Options)
	if err != nil {
		return totals, err
	}
	w := objectWriter{generator: g, prefix: options.Prefix}
	if w.compressor, err = gzip.NewWriterLevel(&w.compressed, gzip.BestSpeed); err != nil {
		return totals, errors.Join(errors.New("generate: gzip"), err)
	}
	shapes := []Shape{Bare, Merged, Bare, LogString, Bare, Merged, Bare}
	corruptEvery := options.Objects/(options.Corrupt+1) + 1
	for i := range options.Objects {
		g.SetShape(shapes[i%len(shapes)])
		if options.Shape != Bare {
			g.SetShape(options.Shape)
		}
		object := w.object(i, share(options.Events-totals.Events, options.Objects-i))
		for _, kind := range object.Lines {
			switch kind {
			case Event:
				totals.Events++
			case Bad:
				totals.Bad++
			case Blank:
				totals.Blank++
			}
		}
		totals.Bytes += int64(len(w.lines))
		if err := w.put(ctx, object, &totals, put); err != nil {
			return totals, err
		}
		if (i+1)%corruptEvery == 0 && totals.Corrupt < options.Corrupt {
			if err := w.put(ctx, w.corrupt(totals.Corrupt), &totals, put); err != nil {
				return totals, err
			}
		}
	}
	for totals.Corrupt < options.Corrupt {
		if err := w.put(ctx, w.corrupt(totals.Corrupt), &totals, put); err != nil {
			return totals, err
		}
	}
	return totals, nil
}

// share is how many of the events left go into the next object: all into the
// last, more or less than the average into the others of many.
func share(events, objects int) int {
	switch {
	case objects == 1:
		return events
	case objects > 8:
		return max(events/objects*(6+objects%5)/8, 1)
	}
	return max(events/objects, 1)
}

type objectWriter struct {
	generator  *Generator
	prefix     string
	lines      []byte
	kinds      []Kind
	compressed bytes.Buffer
	compressor *gzip.Writer
}

func (w *objectWriter) object(number, events int) Object {
	w.lines, w.kinds = w.lines[:0], w.kinds[:0]
	started := w.generator.Now()
	for events > 0 {
		var kind Kind
		w.lines, kind = w.generator.AppendLine(w.lines)
		w.lines = append(w.lines, '\n')
		w.kinds = append(w.kinds, kind)
		if kind == Event {
			events--
		}
	}
	w.compressed.Reset()
	w.compressor.Reset(&w.compressed)
	// A bytes.Buffer takes all that is written to it.
	_, _ = w.compressor.Write(w.lines)
	_ = w.compressor.Close()
	return Object{
		Key:   fmt.Sprintf("%s%s/kube-apiserver-ip-10-0-0-%d-%05d.ndjson.gz", w.prefix, started.Format("2006/01/02/15"), 4+number%3, number),
		Body:  w.compressed.Bytes(),
		Lines: w.kinds,
	}
}

// corrupt is an object whose first deflate block has the type that there is none of.
func (w *objectWriter) corrupt(number int) Object {
	body := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 0x07}
	for range 200 {
		body = append(body, byte(w.generator.random.below(256))) //nolint:gosec // a byte
	}
	return Object{
		Key:     fmt.Sprintf("%s%s/kube-apiserver-corrupt-%05d.ndjson.gz", w.prefix, w.generator.Now().Format("2006/01/02/15"), number),
		Body:    body,
		Corrupt: true,
	}
}

func (w *objectWriter) put(ctx context.Context, object Object, totals *Totals, put func(context.Context, Object) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("generate: %w", err)
	}
	if err := put(ctx, object); err != nil {
		return fmt.Errorf("put object %s: %w", object.Key, err)
	}
	totals.Compressed += int64(len(object.Body))
	if object.Corrupt {
		totals.Corrupt++
	} else {
		totals.Objects++
	}
	return nil
}
