package topics

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/identity"
)

// Cause says why a record is in `objects`.
type Cause string

const (
	CauseListed    Cause = "listed"    // found by listing the bucket
	CauseNotified  Cause = "notified"  // announced by a notification
	CauseBackfill  Cause = "backfill"  // announced by a backfill
	CauseRetried   Cause = "retried"   // a dead letter put back; raises the generation
	CauseReplayed  Cause = "replayed"  // a deliberate replay; raises the generation
	CauseContinued Cause = "continued" // the next slice of an object under way
	CausePostponed Cause = "postponed" // the same piece of work, later: others get their turn
)

// Announces tells whether a record of this cause starts work on an object, and
// so takes part in deduplication. The others are links of a chain whose start
// was already let through.
func (c Cause) Announces() bool {
	return c != CauseContinued && c != CausePostponed
}

// Object is one record of the topic `objects`: an S3 object, and from where in
// it to go on.
type Object struct {
	ID           string    `json:"id"`
	Generation   int       `json:"generation"`
	Source       string    `json:"source"`
	Endpoint     string    `json:"endpoint"` // alias of the S3 endpoint, part of the id
	Region       string    `json:"region,omitempty"`
	Bucket       string    `json:"bucket"`
	Key          string    `json:"key"` // decoded
	ETag         string    `json:"etag"`
	Version      string    `json:"version,omitempty"`
	Size         int64     `json:"size"` // as announced, bytes stored; informative
	LastModified time.Time `json:"lastModified,omitzero"`
	AnnouncedAt  time.Time `json:"announcedAt,omitzero"`
	Cause        Cause     `json:"cause"`

	// Where to go on. A new object starts at line 1, byte 0.
	FromLine int64 `json:"fromLine"` // number of the next line, from 1
	FromByte int64 `json:"fromByte"` // decompressed bytes before it
	// How the first fetch decided to split the object; every later read of it
	// splits the same way, so that line numbers stay. Empty until the first fetch.
	Splitting Splitting `json:"splitting,omitempty"`
	// Inside is what SplitValues has entered at this position.
	Inside Inside `json:"inside,omitempty"`
	// Run is what the links of a chain hand on; none in an announcement.
	Run Run `json:"run,omitzero"`
	// Attempt counts the tries of this piece of work that came to nothing.
	Attempt int `json:"attempt,omitempty"`
}

// Run is one way through an object, from an announcement to the last line.
type Run struct {
	Line       int64 `json:"line,omitempty"`       // where it began
	Offset     int64 `json:"offset,omitempty"`     // of the announcement
	ReceivedAt int64 `json:"receivedAt,omitempty"` // ms, once the store has said so
}

// Splitting is how an object's bytes become lines.
type Splitting string

const (
	// SplitLines splits at LF; a CR before it belongs to the line end.
	SplitLines Splitting = "lines"
	// SplitValues splits into JSON values, whatever white space there is between
	// and in them. A list at the top, and that of an object which begins with the
	// key Records, is entered: its elements are the lines.
	SplitValues Splitting = "values"
)

// Inside is where among the values of SplitValues a position is.
type Inside string

const (
	InsideNothing Inside = ""        // between values at the top
	InsideList    Inside = "list"    // between elements of a list
	InsideRecords Inside = "records" // between elements of the list in an object
)

// ErrMalformed marks a record that is not what its topic promises. Doing it
// again won't help: it is set aside.
var ErrMalformed = errors.New("malformed record")

// Record encodes the object for the topic. The key is the object id: what is
// announced twice meets itself in one partition.
func (o *Object) Record(topic string) (*kgo.Record, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("encode object s3://%s/%s: %w", o.Bucket, o.Key, err)
	}
	value, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode object s3://%s/%s: %w", o.Bucket, o.Key, err)
	}
	return &kgo.Record{Topic: topic, Key: []byte(o.ID), Value: value}, nil
}

// DecodeObject decodes a record's value. Fields it doesn't know are those of a
// newer version and are passed over. The error wraps ErrMalformed.
func DecodeObject(value []byte) (Object, error) {
	var o Object
	if err := json.Unmarshal(value, &o); err != nil {
		return Object{}, fmt.Errorf("%w: object: %w", ErrMalformed, err)
	}
	if err := o.validate(); err != nil {
		return Object{}, fmt.Errorf("%w: object: %w", ErrMalformed, err)
	}
	return o, nil
}

func (o *Object) validate() error {
	switch {
	case o.Bucket == "" || o.Key == "":
		return errors.New("bucket and key must be set")
	case o.Source == "":
		return errors.New("source must be set")
	case o.ID != identity.ObjectID(o.Endpoint, o.Bucket, o.Key, o.ETag):
		return fmt.Errorf("id %q is not that of endpoint, bucket, key and etag", o.ID)
	case o.Generation < 0 || o.Attempt < 0:
		return errors.New("generation and attempt must not be negative")
	case o.FromLine < 1 || o.FromByte < 0:
		return fmt.Errorf("position line %d byte %d is none", o.FromLine, o.FromByte)
	case o.Cause == "":
		return errors.New("cause must be set")
	case o.Inside != InsideNothing && o.Inside != InsideList && o.Inside != InsideRecords:
		return fmt.Errorf("inside %q is nothing known", o.Inside)
	}
	return nil
}

// URI names the object as people do.
func (o *Object) URI() string { return "s3://" + o.Bucket + "/" + o.Key }

// ParseURI is the inverse of Object.URI. Of a URI that names no object, for want
// of a bucket or a key, both are empty; a key stands as it is, encoded or not.
func ParseURI(text string) (bucket, key string, isURI bool) {
	address, isURI := strings.CutPrefix(text, "s3://")
	bucket, key, _ = strings.Cut(address, "/")
	if !isURI || bucket == "" || key == "" {
		return "", "", isURI
	}
	return bucket, key, true
}
