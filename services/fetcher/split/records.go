package split

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/topics"
)

const (
	recordsAtOnce = 64
	headersOfLine = 4
	digitsAtOnce  = 1 << 10
)

// records makes the records of one object's lines as topics.RawLine does, but
// many with one allocation: what is the same in all of them is shared, and the
// rest comes from blocks.
type records struct {
	topic    string
	template [headersOfLine]kgo.RecordHeader
	lineAt   int // which header is the line's number

	block   []kgo.Record
	headers []kgo.RecordHeader
	digits  []byte
}

func newRecords(topic string, object *topics.Object, receivedAt int64) *records {
	raw := topics.RawLine{Source: object.Source, Object: object.ID, Line: 1, ReceivedAt: receivedAt}
	r := &records{topic: topic}
	copy(r.template[:], raw.Record(topic).Headers)
	for i := range r.template {
		if r.template[i].Key == topics.HeaderLine {
			r.lineAt = i
		}
	}
	return r
}

func (r *records) record(text []byte, line int64) *kgo.Record {
	if len(r.block) == 0 {
		r.block = make([]kgo.Record, recordsAtOnce)
		r.headers = make([]kgo.RecordHeader, recordsAtOnce*headersOfLine)
	}
	if cap(r.digits)-len(r.digits) < 20 {
		r.digits = make([]byte, 0, digitsAtOnce)
	}
	start := len(r.digits)
	r.digits = strconv.AppendInt(r.digits, line, 10)

	record, headers := &r.block[0], r.headers[:headersOfLine:headersOfLine]
	r.block, r.headers = r.block[1:], r.headers[headersOfLine:]
	copy(headers, r.template[:])
	headers[r.lineAt].Value = r.digits[start:len(r.digits):len(r.digits)]
	record.Topic, record.Value, record.Headers = r.topic, text, headers
	return record
}
