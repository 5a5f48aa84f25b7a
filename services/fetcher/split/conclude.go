package split

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/topics"
)

const (
	// longestBackoff between two tries of a piece of work.
	longestBackoff = 5 * time.Minute
	// attemptWhileAway says, by the backoff before this one, how long the pause is
	// while the store answers nobody.
	attemptWhileAway = 6
	// hopelessAttempts is how often something is tried that another try hardly
	// mends: bytes that don't decompress, an object that is no longer the same.
	hopelessAttempts = 2
)

// conclude produces what becomes of a piece of work: nothing when it is done,
// the next link, a later try, or a dead letter.
func (s *Splitter) conclude(tx transaction, p *piece) {
	s.tellApart(tx, p)
	switch {
	case p.ended:
		s.giveUp(p)
		s.finished(tx, p)
	case p.err == nil:
		s.goOn(tx, p)
	case p.progress && !isAnswer(p.err):
		// Not a try that came to nothing: the next one begins further on.
		s.log.Debug("reading broke off, going on later", "object", p.object.URI(), "line", p.object.FromLine, "error", p.err)
		s.giveUp(p)
		s.link(tx, p, topics.CauseContinued, time.Time{})
		s.counted.object(outcomeContinued)
	default:
		s.giveUp(p)
		s.failed(tx, p)
	}
}

// finished is the end of a chain: every line of the object has been produced.
// Here, and only here, the number of its lines is known.
func (s *Splitter) finished(tx transaction, p *piece) {
	s.tellObject(tx, p, topics.OutcomeComplete, "")
	s.counted.ended(outcomeDone, &p.object)
	s.counted.lasted(time.UnixMilli(p.receivedAt))
	s.log.Debug("object split", "object", p.object.URI(), "id", p.object.ID,
		"lines", p.object.FromLine-1, "bytes", p.object.FromByte)
}

// goOn keeps the stream for the next link when there is a place for it.
func (s *Splitter) goOn(tx transaction, p *piece) {
	if p.held != nil && !p.placed {
		p.placed = s.streams.reserve()
	}
	if p.held != nil && p.placed {
		p.held.park(&p.object)
		s.streams.park(p.held)
		p.held, p.placed = nil, false
	}
	s.giveUp(p)
	cause, outcome := topics.CausePostponed, outcomePostponed
	if p.progress {
		cause, outcome = topics.CauseContinued, outcomeContinued
	}
	s.link(tx, p, cause, notBefore(p.record))
	s.counted.object(outcome)
}

// failed tries again later, or sets the object aside. While the store answers
// nobody it was no try.
func (s *Splitter) failed(tx transaction, p *piece) {
	reason, attempts := s.reasonOf(p.err)
	pause := s.backoff(attemptWhileAway)
	switch {
	case p.storeAway:
	case p.object.Attempt+1 >= attempts:
		s.deadLetter(tx, p, reason, p.err)
		return
	default:
		p.object.Attempt++
		pause = s.backoff(p.object.Attempt)
	}
	s.log.Debug("will be tried again", "object", p.object.URI(), "attempt", p.object.Attempt, "in", pause, "error", p.err)
	s.link(tx, p, topics.CausePostponed, time.Now().Add(pause))
	s.counted.retry(reason)
}

// reasonOf says what an error is called in a dead letter, and how often the
// work is tried.
func (s *Splitter) reasonOf(err error) (topics.Reason, int) {
	attempts := s.opts.Fetcher.Attempts
	switch {
	case errors.Is(err, errUnknownSource):
		return topics.ReasonUnknownSource, attempts
	case errors.Is(err, objectstore.ErrMissing):
		return topics.ReasonObjectMissing, attempts
	case errors.Is(err, objectstore.ErrForbidden):
		return topics.ReasonObjectForbidden, attempts
	case errors.Is(err, objectstore.ErrArchived):
		return topics.ReasonObjectArchived, attempts
	case errors.Is(err, errTooLarge): // the same bytes again are as many
		return topics.ReasonObjectTooLarge, 1
	case errors.Is(err, objectstore.ErrChanged):
		return topics.ReasonObjectChanged, min(attempts, hopelessAttempts)
	case errors.Is(err, errCorrupt):
		return topics.ReasonObjectCorrupt, min(attempts, hopelessAttempts)
	}
	return topics.ReasonObjectUnavailable, attempts
}

// backoff before the attempt: doubling from the configured pause, with jitter.
func (s *Splitter) backoff(attempt int) time.Duration {
	pause := s.opts.Fetcher.Backoff << min(attempt-1, 20)
	pause = min(max(pause, 2), longestBackoff)
	return pause/2 + rand.N(pause/2+1) //nolint:gosec // not a secret
}

// link puts the object back to the partition it came from: there, and nowhere
// else, its stream is open and its announcement known.
func (s *Splitter) link(tx transaction, p *piece, cause topics.Cause, due time.Time) {
	p.object.Cause = cause
	record, err := p.object.Record(p.record.Topic)
	if err != nil { // it was decoded from a valid record and only moved on
		s.deadLetter(tx, p, topics.ReasonMalformedRecord, err)
		return
	}
	record.Partition = p.record.Partition
	if time.Now().Before(due) {
		record.Headers = []kgo.RecordHeader{{Key: headerNotBefore, Value: strconv.AppendInt(nil, due.UnixMilli(), 10)}}
	}
	tx.Produce(record)
}

// deadLetter sets the object aside, as it would have to be taken up again. Of a
// record that is not understood it keeps the bytes.
func (s *Splitter) deadLetter(tx transaction, p *piece, reason topics.Reason, cause error) {
	letter := topics.DeadLetterRecord{
		Stage:     Stage,
		Reason:    reason,
		Error:     cause.Error(),
		Topic:     p.record.Topic,
		Partition: p.record.Partition,
		Offset:    p.record.Offset,
		Source:    p.object.Source,
		Object:    p.object.ID,
		Bytes:     p.record.Value,
	}
	if p.object.ID != "" {
		letter.Line = p.object.FromLine - 1 // the last one that was produced
		if p.receivedAt > 0 {
			letter.ReceivedAt = p.receivedAt
		}
		if value, err := json.Marshal(&p.object); err == nil {
			letter.Bytes = value
		}
	}
	tx.Produce(letter.Record(s.opts.Topics.DeadLetter))
	if p.object.ID != "" {
		s.tellObject(tx, p, topics.OutcomeDeadLetter, reason)
	}
	s.counted.ended(outcomeDead, &p.object)
	s.counted.deadLetter(reason)
	s.log.Warn("object set aside", "reason", reason, "object", p.object.URI(), "id", p.object.ID,
		"line", letter.Line, "error", cause)
}

// giveUp closes the piece's stream and gives its place back.
func (s *Splitter) giveUp(p *piece) {
	if p.held != nil {
		p.held.close()
		p.held = nil
	}
	if p.placed {
		s.streams.release()
		p.placed = false
	}
}

func (s *Splitter) giveUpAll(work plan) {
	for _, p := range work.pieces {
		s.giveUp(p)
	}
}
