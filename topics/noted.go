package topics

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Noted is a record of the topic `objects` that is no work: it repeats which
// objects of a source have been announced, so that whoever lists the source next
// knows after their announcements have expired. Several make one note.
type Noted struct {
	Source string
	IDs    []uint64 // the first eight bytes of object ids
	Last   bool     // the last record of the note
}

// headerNoted tells a Noted from an Object.
const headerNoted = "noted"

type notedJSON struct {
	Source string `json:"source"`
	Last   bool   `json:"last,omitempty"`
	IDs    []byte `json:"ids"`
}

// Record encodes the note.
func (n *Noted) Record(topic string) (*kgo.Record, error) {
	encoded := notedJSON{Source: n.Source, Last: n.Last, IDs: make([]byte, 0, 8*len(n.IDs))}
	for _, id := range n.IDs {
		encoded.IDs = binary.BigEndian.AppendUint64(encoded.IDs, id)
	}
	value, err := json.Marshal(encoded)
	if err != nil {
		return nil, fmt.Errorf("encode a note of source %s: %w", n.Source, err)
	}
	return &kgo.Record{
		Topic: topic, Key: []byte(n.Source), Value: value, Headers: []kgo.RecordHeader{{Key: headerNoted}},
	}, nil
}

// IsNoted tells whether a record of `objects` is a Noted.
func IsNoted(record *kgo.Record) bool {
	for i := range record.Headers {
		if record.Headers[i].Key == headerNoted {
			return true
		}
	}
	return false
}

// DecodeNoted decodes a record for which IsNoted. The error wraps ErrMalformed.
func DecodeNoted(value []byte) (Noted, error) {
	var encoded notedJSON
	if err := json.Unmarshal(value, &encoded); err != nil {
		return Noted{}, fmt.Errorf("%w: note: %w", ErrMalformed, err)
	}
	if encoded.Source == "" || len(encoded.IDs)%8 != 0 {
		return Noted{}, fmt.Errorf("%w: note: source %q, %d bytes of ids", ErrMalformed, encoded.Source, len(encoded.IDs))
	}
	n := Noted{Source: encoded.Source, Last: encoded.Last, IDs: make([]uint64, 0, len(encoded.IDs)/8)}
	for ids := encoded.IDs; len(ids) > 0; ids = ids[8:] {
		n.IDs = append(n.IDs, binary.BigEndian.Uint64(ids))
	}
	return n, nil
}
