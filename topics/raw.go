package topics

import (
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/identity"
)

// Headers of `raw` and `deadletter`. Numbers are decimal text, so that any
// Kafka client shows them.
const (
	HeaderSource     = "source"
	HeaderObject     = "object"
	HeaderLine       = "line"
	HeaderReceivedAt = "receivedAt" // milliseconds since 1970-01-01 UTC
)

// RawLine is one record of the topic `raw`.
type RawLine struct {
	Source     string
	Object     string // object id
	Line       int64  // physical line, from 1
	ReceivedAt int64  // ms; when S3 received the object
	Bytes      []byte // the line without its line end, byte for byte
}

// Record encodes the line. It has no key: the lines of a slice are spread over
// partitions, their order is given by the id.
func (l *RawLine) Record(topic string) *kgo.Record {
	return &kgo.Record{
		Topic: topic,
		Value: l.Bytes,
		Headers: []kgo.RecordHeader{
			{Key: HeaderSource, Value: []byte(l.Source)},
			{Key: HeaderObject, Value: []byte(l.Object)},
			{Key: HeaderLine, Value: strconv.AppendInt(nil, l.Line, 10)},
			{Key: HeaderReceivedAt, Value: strconv.AppendInt(nil, l.ReceivedAt, 10)},
		},
	}
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
	}
	return line, nil
}
