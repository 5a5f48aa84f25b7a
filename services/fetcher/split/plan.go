package split

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/topics"
)

// headerNotBefore, on a record of `objects`, is the time (ms) before which it
// need not be tried again.
const headerNotBefore = "notBefore"

const (
	// longestWait is how long a transaction waits for a later try to become due when
	// there is nothing else to do. It bounds how long a new object may wait, and
	// how often a waiting one is put back.
	longestWait = time.Second
	// shortWait, for each of them, is how long it waits while it is not known that
	// there is nothing else.
	shortWait = time.Millisecond
)

// expectedRatio of decompressed to stored bytes, to guess from its stored size
// whether an object is large. Audit logs are repetitive.
const expectedRatio = 10

// piece is one record's bounded piece of work.
type piece struct {
	record *kgo.Record
	object topics.Object // its position moves with the lines that are produced

	held   *stream    // open, when there is one
	placed bool       // has a place among the open streams
	budget *allowance // what it may read

	// What came of it.
	begun     bool // it was read at all
	answered  bool // the store said something about the object
	storeAway bool // it failed, as whatever would have been asked of the store
	progress  bool // the position has moved
	ended     bool // the last line is produced

	receivedAt int64 // ms; when the store received the object, once it has said so
	err        error
	apart      apart // of its lines, those that do not go to raw
}

// allowance is a number of decompressed bytes, drawn on by several.
type allowance struct{ left atomic.Int64 }

func newAllowance(n int64) *allowance {
	a := new(allowance)
	a.left.Store(n)
	return a
}

// plan is one transaction's work.
type plan struct {
	pieces []*piece // all that need a conclusion
	large  []*piece // to read, each with its own budget
	small  []*piece // to read while the shared budget lasts
}

// plan sorts the records: what is a duplicate or not understood is dealt with
// at once, what is not due or finds no place is postponed, the rest is read.
func (s *Splitter) plan(stopping context.Context, tx transaction) plan {
	var work plan
	var later []*piece
	begun := time.Now()
	earliest := begun.Add(longestWait)
	for _, record := range tx.Records() {
		if topics.IsNoted(record) {
			s.counted.object(outcomeNote)
			s.heed(record)
			continue
		}
		p := s.accept(tx, record)
		if p == nil {
			continue
		}
		work.pieces = append(work.pieces, p)
		if due := notBefore(record); time.Now().Before(due) {
			later = append(later, p)
			if due.Before(earliest) {
				earliest = due
			}
			continue
		}
		s.place(&work, p)
	}
	if len(later) > 0 && len(later) == len(tx.Records()) {
		// Without a pause, putting them back would be all that happens.
		s.awaitOne(stopping, later, earliest)
		for _, p := range later {
			if !time.Now().Before(notBefore(p.record)) {
				s.place(&work, p)
			}
		}
	} else {
		s.busy = begun
	}
	s.share(&work)
	return work
}

// awaitOne waits for one of the records to become due: no longer than it takes
// to see that all there is are such ones. There may be thousands, and what can
// be done at once be behind them.
func (s *Splitter) awaitOne(stopping context.Context, later []*piece, earliest time.Time) {
	around := true // they have all been put back since there was something to do
	for _, p := range later {
		around = around && !p.record.Timestamp.Before(s.busy.Truncate(time.Millisecond))
	}
	switch {
	case around:
		delay.For(stopping, time.Until(earliest))
		s.busy = time.Now()
	case !s.streams.isParked(): // else the next link of one is known to be behind them
		delay.For(stopping, min(time.Until(earliest), time.Duration(len(later))*shortWait))
	}
}

// accept makes a piece of work of a record, or deals with it and gives nil.
func (s *Splitter) accept(tx transaction, record *kgo.Record) *piece {
	object, err := topics.DecodeObject(record.Value)
	if err == nil && object.Splitting != "" && object.Splitting != topics.SplitLines && object.Splitting != topics.SplitValues {
		err = fmt.Errorf("%w: splitting %q is not known to this version", topics.ErrMalformed, object.Splitting)
	}
	p := &piece{record: record, object: object}
	p.begin()
	if err != nil {
		p.object = topics.Object{}
		s.deadLetter(tx, p, topics.ReasonMalformedRecord, err)
		return nil
	}
	if object.Cause.Announces() && !s.dedupe.isFirst(&object, record) {
		s.counted.ended(outcomeDuplicate, &object)
		s.log.Debug("announced before, skipped", "object", object.URI(), "id", object.ID, "offset", record.Offset)
		return nil
	}
	if object.ETag == "" {
		// Its id would be that of whatever is put there later, too.
		s.deadLetter(tx, p, topics.ReasonObjectWithoutETag, errWithoutETag)
		return nil
	}
	return p
}

var (
	errUnknownSource = errors.New("not of this configuration")
	errWithoutETag   = errors.New("the store gives the object no ETag, so what is read could not be told from what is put there later")
)

// known tells whether the object is one of the configured sources' and store's.
// While a new source is rolled out it may be so to one instance and not yet to
// another; so one that is not is tried again, like an object that can't be read.
func (s *Splitter) known(object *topics.Object) error {
	switch alias := s.opts.Store.Alias(); {
	case s.sources[object.Source] == nil:
		if len(s.strange) < mostStrangers && !s.strange[object.Source] {
			s.strange[object.Source] = true
			s.log.Warn("objects are announced of a source that is not in the configuration; they wait for a while, "+
				"then are set aside", "source", object.Source, "attempts", s.opts.Fetcher.Attempts)
		}
		return fmt.Errorf("%w: source %q is not in it", errUnknownSource, object.Source)
	case object.Endpoint != alias:
		return fmt.Errorf("%w: the object is in the store %q, the configured one is %q", errUnknownSource, object.Endpoint, alias)
	}
	return nil
}

// mostStrangers is how many sources that are not configured are warned of.
const mostStrangers = 100

// heed takes notice of a record that is no work.
func (s *Splitter) heed(record *kgo.Record) {
	if !topics.IsVoid(record) {
		return
	}
	note, err := topics.DecodeNoted(record.Value)
	if err != nil {
		return // of another version, which knows what it is for
	}
	if void := note.Void; void.Partition == record.Partition {
		// Where the log was made anew its offsets begin again.
		s.dedupe.forgetBelow(record.Partition, max(void.From, void.Next))
	}
	s.onVoid(record.Partition)
}

// place decides whether the piece is read in this transaction. One that isn't
// stays as it is and is postponed in the end.
func (s *Splitter) place(work *plan, p *piece) {
	if p.err = s.known(&p.object); p.err != nil {
		return
	}
	if p.held = s.streams.take(keyOf(&p.object)); p.held != nil {
		p.placed = true
		work.large = append(work.large, p)
		return
	}
	if p.object.FromByte == 0 && p.object.Size <= int64(s.opts.Fetcher.SliceSize)/(4*expectedRatio) {
		work.small = append(work.small, p)
		return
	}
	if s.streams.reserve() {
		p.placed = true
		work.large = append(work.large, p)
	}
}

// smallShare is how many times its share of bytes small objects may take: what
// doesn't fit has to be written to the log again, and what is produced leaves
// memory as it goes. Time bounds a transaction all the same.
const smallShare = 4

// share divides the transaction's bytes: small objects take from one half in
// turn, large ones have equal parts of the other; or all of it where only one
// kind is there.
func (s *Splitter) share(work *plan) {
	total := int64(s.opts.Fetcher.SliceSize)
	forLarge := total
	if len(work.small) > 0 {
		forLarge = total / 2
	}
	if len(work.large) == 0 {
		forLarge = 0
	}
	for _, p := range work.large {
		p.budget = newAllowance(forLarge / int64(len(work.large)))
	}
	shared := newAllowance(smallShare * (total - forLarge))
	for _, p := range work.small {
		p.budget = shared
	}
}

// notBefore is when a record is due; long ago for most.
func notBefore(record *kgo.Record) time.Time {
	for i := range record.Headers {
		if record.Headers[i].Key == headerNotBefore {
			if ms, err := strconv.ParseInt(string(record.Headers[i].Value), 10, 64); err == nil {
				return time.UnixMilli(ms)
			}
		}
	}
	return time.Time{}
}
