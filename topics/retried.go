package topics

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Retried is a record of the topic `deadletter` that is no dead letter: it says
// that one was put back where it came from. It is written in the transaction
// that puts it back, so a letter was put back if and only if this is there.
type Retried struct {
	Partition int32 // of the dead letter
	Offset    int64
	Topic     string // where it was put back
	Object    string // the dead letter's object id, whose key the record has too; may be empty
}

// headerRetried tells a Retried from a DeadLetterRecord.
const headerRetried = "retried"

// Record encodes it.
func (r *Retried) Record(topic string) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: []byte(r.Object), Headers: []kgo.RecordHeader{
		{Key: headerRetried, Value: fmt.Appendf(nil, "%d/%d", r.Partition, r.Offset)},
		{Key: HeaderTopic, Value: []byte(r.Topic)},
	}}
}

// IsRetried tells whether a record of `deadletter` is a Retried.
func IsRetried(record *kgo.Record) bool {
	for i := range record.Headers {
		if record.Headers[i].Key == headerRetried {
			return true
		}
	}
	return false
}

// DecodeRetried reads a record for which IsRetried. The error wraps ErrMalformed.
func DecodeRetried(record *kgo.Record) (Retried, error) {
	r := Retried{Object: string(record.Key), Offset: -1}
	for i := range record.Headers {
		header := &record.Headers[i]
		switch header.Key {
		case headerRetried:
			partition, offset, _ := strings.Cut(string(header.Value), "/")
			number, err := strconv.ParseInt(partition, 10, 32)
			if err == nil {
				r.Partition = int32(number)
				r.Offset, err = strconv.ParseInt(offset, 10, 64)
			}
			if err != nil {
				return r, fmt.Errorf("%w: header %s: %w", ErrMalformed, headerRetried, err)
			}
		case HeaderTopic:
			r.Topic = string(header.Value)
		}
	}
	if r.Partition < 0 || r.Offset < 0 {
		return r, fmt.Errorf("%w: header %s names no record", ErrMalformed, headerRetried)
	}
	return r, nil
}
