// Package deadletter reads the topic `deadletter` and puts what it holds back
// where it came from. It is `auditstream deadletter`: a tool beside the stages,
// which may look at what each of them wrote.
//
// What was put back is marked in the topic itself (topics.Retried), in the Kafka
// transaction that puts it back. So it is put back once, however often it is
// asked for and wherever a crash comes.
package deadletter

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/topics"
)

// Position is where in the topic a dead letter is.
type Position struct {
	Partition int32
	Offset    int64
}

// String is the position as commands take it.
func (p Position) String() string { return fmt.Sprintf("%d/%d", p.Partition, p.Offset) }

// ParsePosition is the inverse of String.
func ParsePosition(text string) (Position, error) {
	partition, offset, found := strings.Cut(text, "/")
	p, err := strconv.ParseInt(partition, 10, 32)
	o, offsetErr := strconv.ParseInt(offset, 10, 64)
	if !found || err != nil || offsetErr != nil || p < 0 || o < 0 {
		return Position{}, fmt.Errorf("%q is no dead letter; write it as PARTITION/OFFSET, as list shows it", text)
	}
	return Position{int32(p), o}, nil
}

// Letter is one dead letter.
type Letter struct {
	Position
	At     time.Time
	Letter topics.DeadLetterRecord
	Length int // of the bytes, which a list drops
	// Broken says why the record can't be read as a dead letter; Letter has no
	// more than its bytes then.
	Broken  error
	Retried time.Time // when it was put back; zero if it was not
	URI     string    // of the object, when known
}

// reasonBroken stands where a record has no reason that could be read.
const reasonBroken topics.Reason = "unreadable"

func newLetter(record *kgo.Record) *Letter {
	l := &Letter{Position: Position{record.Partition, record.Offset}, At: record.Timestamp, Length: len(record.Value)}
	var err error
	if l.Letter, err = topics.DecodeDeadLetter(record); err != nil {
		l.Broken = err
		l.Letter = topics.DeadLetterRecord{Reason: reasonBroken, Error: err.Error(), Bytes: record.Value}
	}
	if object, found := l.object(); found {
		l.URI = object.URI()
	}
	return l
}

// object is what the letter of a whole object holds.
func (l *Letter) object() (topics.Object, bool) {
	if l.Letter.Object == "" || len(l.Letter.Bytes) == 0 || l.Letter.Bytes[0] != '{' || l.Letter.Reason == topics.ReasonLineTooLong {
		return topics.Object{}, false
	}
	object, err := topics.DecodeObject(l.Letter.Bytes)
	return object, err == nil && object.ID == l.Letter.Object
}

// Filter chooses dead letters. What is empty is not asked for.
type Filter struct {
	Positions     []Position
	Since, Until  time.Time
	Reason        topics.Reason
	Stage, Source string
	Objects       map[string]bool // ids
	// Retried lets those come too that were put back.
	Retried bool
	Limit   int
}

// Chooses tells whether anything is asked for at all.
func (f *Filter) Chooses() bool {
	return len(f.Positions) > 0 || !f.Since.IsZero() || !f.Until.IsZero() || f.Reason != "" || f.Stage != "" || f.Source != "" || f.Objects != nil
}

func (f *Filter) selects(l *Letter) bool {
	d := &l.Letter
	return (f.Since.IsZero() || !l.At.Before(f.Since)) && (f.Until.IsZero() || l.At.Before(f.Until)) &&
		(f.Reason == "" || f.Reason == d.Reason) && (f.Stage == "" || f.Stage == d.Stage) && (f.Source == "" || f.Source == d.Source) &&
		(f.Objects == nil || f.Objects[d.Object]) && (f.Retried || l.Retried.IsZero())
}
