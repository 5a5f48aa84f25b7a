package topics

import (
	"encoding/json"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/identity"
)

// NotedID is an object id, as bytes.
type NotedID [identity.ObjectIDLength / 2]byte

// Noted is a record of the topic `objects` that is no work: it repeats which
// objects of a source have been announced, so that whoever lists the source next
// knows after their announcements have expired. Several make one note.
//
// With Void it says the opposite: announcements are missing from the log, so no
// note that was written without knowing of it counts any more, whoever's it is.
type Noted struct {
	Source string
	IDs    []NotedID
	Last   bool     // the last record of the note
	Knows  []string // the names of the voids that the note was written in knowledge of

	Void *Void
}

// Void is a range of offsets of `objects` that was passed over unread.
type Void struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"` // what was to be read next
	Next      int64 `json:"next"` // what is read instead
}

// Name is the same for the same range.
func (v *Void) Name() string { return fmt.Sprintf("%d:%d-%d", v.Partition, v.From, v.Next) }

// headerNoted tells a Noted from an Object; its value, a void from a note.
const (
	headerNoted = "noted"
	valueVoid   = "void"
)

// notedVersion is that of the encoding. Another one's notes are not read: what
// they tell is announced again.
const notedVersion = 2

type notedJSON struct {
	Version int      `json:"version"`
	Source  string   `json:"source,omitempty"`
	Last    bool     `json:"last,omitempty"`
	IDs     []byte   `json:"ids,omitempty"`
	Knows   []string `json:"knows,omitempty"`
	Void    *Void    `json:"void,omitempty"`
}

// Record encodes the note.
func (n *Noted) Record(topic string) (*kgo.Record, error) {
	encoded := notedJSON{
		Version: notedVersion, Source: n.Source, Last: n.Last, Knows: n.Knows, Void: n.Void,
		IDs: make([]byte, 0, len(NotedID{})*len(n.IDs)),
	}
	for i := range n.IDs {
		encoded.IDs = append(encoded.IDs, n.IDs[i][:]...)
	}
	value, err := json.Marshal(encoded)
	if err != nil {
		return nil, fmt.Errorf("encode a note of source %s: %w", n.Source, err)
	}
	header := kgo.RecordHeader{Key: headerNoted}
	if n.Void != nil {
		header.Value = []byte(valueVoid)
	}
	return &kgo.Record{Topic: topic, Key: []byte(n.Source), Value: value, Headers: []kgo.RecordHeader{header}}, nil
}

// IsNoted tells whether a record of `objects` is a Noted.
func IsNoted(record *kgo.Record) bool {
	noted, _ := notedHeader(record)
	return noted
}

// IsVoid tells whether such a record has a Void.
func IsVoid(record *kgo.Record) bool {
	_, value := notedHeader(record)
	return value == valueVoid
}

func notedHeader(record *kgo.Record) (noted bool, value string) {
	for i := range record.Headers {
		if record.Headers[i].Key == headerNoted {
			return true, string(record.Headers[i].Value)
		}
	}
	return false, ""
}

// DecodeNoted decodes a record for which IsNoted. The error wraps ErrMalformed.
func DecodeNoted(value []byte) (Noted, error) {
	var encoded notedJSON
	if err := json.Unmarshal(value, &encoded); err != nil {
		return Noted{}, fmt.Errorf("%w: note: %w", ErrMalformed, err)
	}
	const size = len(NotedID{})
	if encoded.Version != notedVersion || (encoded.Source == "") == (encoded.Void == nil) || len(encoded.IDs)%size != 0 {
		return Noted{}, fmt.Errorf("%w: note: version %d, source %q, void %t, %d bytes of ids",
			ErrMalformed, encoded.Version, encoded.Source, encoded.Void != nil, len(encoded.IDs))
	}
	n := Noted{Source: encoded.Source, Last: encoded.Last, Knows: encoded.Knows, Void: encoded.Void}
	if len(encoded.IDs) > 0 {
		n.IDs = make([]NotedID, 0, len(encoded.IDs)/size)
	}
	for ids := encoded.IDs; len(ids) > 0; ids = ids[size:] {
		n.IDs = append(n.IDs, NotedID(ids[:size]))
	}
	return n, nil
}
