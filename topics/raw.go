package topics

import (
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
)

// Headers of `raw` and `deadletter`. Numbers are decimal text, so that any
// Kafka client shows them.
const (
	HeaderSource     = "source"
	HeaderObject     = "object"
	HeaderLine       = "line"
	HeaderReceivedAt = "receivedAt" // milliseconds since 1970-01-01 UTC
	// The two that only what was put back has.
	HeaderEvent  = "event"  // of several events in a line, which one, from 0
	HeaderExtent = "extent" // which events are meant, of event.Extent
)

// RawLine is one record of the topic `raw`.
type RawLine struct {
	Source     string
	Object     string // object id
	Line       int64  // physical line, from 1
	ReceivedAt int64  // ms; when S3 received the object
	Bytes      []byte // the line without its line end, byte for byte

	// Of a line that is done again for events of it that were set aside: which
	// ones. All are meant otherwise.
	Extent event.Extent
	Event  int
}

// Record encodes the line. It has no key: the lines of a slice are spread over
// partitions, their order is given by the id.
func (l *RawLine) Record(topic string) *kgo.Record {
	record := &kgo.Record{
		Topic: topic,
		Value: l.Bytes,
		Headers: []kgo.RecordHeader{
			{Key: HeaderSource, Value: []byte(l.Source)},
			{Key: HeaderObject, Value: []byte(l.Object)},
			{Key: HeaderLine, Value: strconv.AppendInt(nil, l.Line, 10)},
			{Key: HeaderReceivedAt, Value: strconv.AppendInt(nil, l.ReceivedAt, 10)},
		},
	}
	if l.Extent != event.WholeLine {
		record.Headers = append(record.Headers,
			kgo.RecordHeader{Key: HeaderEvent, Value: strconv.AppendInt(nil, int64(l.Event), 10)},
			kgo.RecordHeader{Key: HeaderExtent, Value: []byte(l.Extent.String())})
	}
	return record
}

// DecodeRawLine reads a record of `raw`. Source, Object and Bytes point into the
// record, they are no copies. Headers it doesn't know are passed over. The error
// wraps ErrMalformed.
func DecodeRawLine(r *kgo.Record) (RawLine, error) {
	line := RawLine{Bytes: r.Value, Line: -1, ReceivedAt: -1}
	for i := range r.Headers {
		header := &r.Headers[i]
		var err error
		switch header.Key {
		case HeaderSource:
			line.Source = viewString(header.Value)
		case HeaderObject:
			line.Object = viewString(header.Value)
		case HeaderLine:
			line.Line, err = strconv.ParseInt(viewString(header.Value), 10, 64)
		case HeaderReceivedAt:
			line.ReceivedAt, err = strconv.ParseInt(viewString(header.Value), 10, 64)
		case HeaderEvent:
			line.Event, err = strconv.Atoi(viewString(header.Value))
		case HeaderExtent:
			line.Extent, err = event.ParseExtent(viewString(header.Value))
		}
		if err != nil {
			return line, fmt.Errorf("%w: header %s: %w", ErrMalformed, header.Key, err)
		}
	}
	switch {
	case line.Source == "":
		return line, fmt.Errorf("%w: no header %s", ErrMalformed, HeaderSource)
	case len(line.Object) != identity.ObjectIDLength:
		return line, fmt.Errorf("%w: header %s %q is not an object id", ErrMalformed, HeaderObject, line.Object)
	case line.Line < 1:
		return line, fmt.Errorf("%w: no header %s from 1", ErrMalformed, HeaderLine)
	case line.ReceivedAt < 0:
		return line, fmt.Errorf("%w: no header %s", ErrMalformed, HeaderReceivedAt)
	case line.Event < 0:
		return line, fmt.Errorf("%w: header %s is negative", ErrMalformed, HeaderEvent)
	}
	return line, nil
}
