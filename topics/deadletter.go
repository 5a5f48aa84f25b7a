package topics

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/event"
)

// Headers of `deadletter` beside those of `raw`.
const (
	HeaderStage     = "stage"     // fetcher, enricher, sink
	HeaderReason    = "reason"    // one of the closed set of reasons
	HeaderError     = "error"     // the error's text
	HeaderTopic     = "topic"     // where the original record was
	HeaderPartition = "partition" //
	HeaderOffset    = "offset"    //
	HeaderSize      = "size"      // of what the value is only the beginning of
)

// Reason says why a record was set aside. The set is closed: these and the
// normalizer's own (package audit).
type Reason string

// What can go wrong before a line is there. The value of such a dead letter is
// the record of `objects`, for ReasonLineTooLong the start of the line.
const (
	ReasonObjectMissing     Reason = "object-missing"      // no such object or version
	ReasonObjectForbidden   Reason = "object-forbidden"    // access denied
	ReasonObjectChanged     Reason = "object-changed"      // overwritten while it was read
	ReasonObjectCorrupt     Reason = "object-corrupt"      // does not decompress, or ends too early
	ReasonObjectArchived    Reason = "object-archived"     // in a class that has to be restored first
	ReasonObjectTooLarge    Reason = "object-too-large"    // decompresses to more than is allowed
	ReasonObjectUnavailable Reason = "object-unavailable"  // the store failed on it again and again
	ReasonObjectWithoutETag Reason = "object-without-etag" // the store does not tell one content of it from another
	ReasonLineTooLong       Reason = "line-too-long"       // over the line limit
	ReasonMalformedRecord   Reason = "malformed-record"    // not a record of its topic
	ReasonUnknownSource     Reason = "unknown-source"      // the source is not in the configuration
	// ReasonNotANotification is a message of a queue; its value is the body.
	ReasonNotANotification Reason = "not-a-notification"
)

// Reasons are these.
func Reasons() []Reason {
	return []Reason{
		ReasonObjectMissing, ReasonObjectForbidden, ReasonObjectChanged, ReasonObjectCorrupt, ReasonObjectArchived, ReasonObjectTooLarge,
		ReasonObjectUnavailable, ReasonObjectWithoutETag, ReasonLineTooLong, ReasonMalformedRecord, ReasonUnknownSource, ReasonNotANotification,
	}
}

// maxErrorText bounds the error header.
const maxErrorText = 1024

// DeadLetterRecord is one record of the topic `deadletter`: the original bytes,
// where they came from, and why they were set aside.
type DeadLetterRecord struct {
	Stage  string
	Reason Reason
	Error  string

	Topic     string
	Partition int32
	Offset    int64

	Source     string // empty when not known
	Object     string // object id; empty when not known
	Line       int64  // 0 when the whole object is meant
	Event      int    // of several events in a line, which one
	ReceivedAt int64  // ms; 0 when not known
	// Extent says what Bytes are: the line, all of which (or one event, or the
	// rest from Event on) is meant, or a part of it, which holds Event.
	Extent event.Extent

	Bytes []byte
	Size  int64 // when Bytes are only the beginning: of how many; 0 otherwise
}

// Record encodes the dead letter. Its key is the object id, so that the dead
// letters of an object stay together.
func (d *DeadLetterRecord) Record(topic string) *kgo.Record {
	number := func(n int64) []byte { return strconv.AppendInt(nil, n, 10) }
	record := &kgo.Record{
		Topic: topic,
		Key:   []byte(d.Object),
		Value: d.Bytes,
		Headers: []kgo.RecordHeader{
			{Key: HeaderStage, Value: []byte(d.Stage)},
			{Key: HeaderReason, Value: []byte(d.Reason)},
			{Key: HeaderError, Value: []byte(boundText(d.Error, maxErrorText))},
			{Key: HeaderTopic, Value: []byte(d.Topic)},
			{Key: HeaderPartition, Value: number(int64(d.Partition))},
			{Key: HeaderOffset, Value: number(d.Offset)},
			{Key: HeaderSource, Value: []byte(d.Source)},
			{Key: HeaderObject, Value: []byte(d.Object)},
			{Key: HeaderLine, Value: number(d.Line)},
			{Key: HeaderEvent, Value: number(int64(d.Event))},
			{Key: HeaderReceivedAt, Value: number(d.ReceivedAt)},
		},
	}
	if d.Extent != event.WholeLine {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: HeaderExtent, Value: []byte(d.Extent.String())})
	}
	if d.Size > 0 {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: HeaderSize, Value: number(d.Size)})
	}
	return record
}

// DecodeDeadLetter reads a record of `deadletter`. Bytes is the record's
// value, not a copy. The error wraps ErrMalformed; that of a record for which
// IsRetried does too, since it is no dead letter.
func DecodeDeadLetter(r *kgo.Record) (DeadLetterRecord, error) {
	d := DeadLetterRecord{Bytes: r.Value}
	for i := range r.Headers {
		header := &r.Headers[i]
		text := string(header.Value)
		var err error
		number := func() int64 {
			var n int64
			n, err = strconv.ParseInt(text, 10, 64)
			return n
		}
		switch header.Key {
		case HeaderStage:
			d.Stage = text
		case HeaderReason:
			d.Reason = Reason(text)
		case HeaderError:
			d.Error = text
		case HeaderTopic:
			d.Topic = text
		case HeaderPartition:
			d.Partition = int32(number()) //nolint:gosec // Kafka's own range
		case HeaderOffset:
			d.Offset = number()
		case HeaderSource:
			d.Source = text
		case HeaderObject:
			d.Object = text
		case HeaderLine:
			d.Line = number()
		case HeaderEvent:
			d.Event = int(number())
		case HeaderReceivedAt:
			d.ReceivedAt = number()
		case HeaderSize:
			d.Size = number()
		case HeaderExtent:
			d.Extent, err = event.ParseExtent(text)
		}
		if err != nil {
			return d, fmt.Errorf("%w: header %s: %w", ErrMalformed, header.Key, err)
		}
	}
	if d.Stage == "" || d.Reason == "" {
		return d, fmt.Errorf("%w: no header %s or %s", ErrMalformed, HeaderStage, HeaderReason)
	}
	return d, nil
}

// boundText cuts text to at most limit bytes at the end of a character, and
// makes it valid UTF-8.
func boundText(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
