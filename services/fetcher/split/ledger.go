package split

import (
	"time"

	"github.com/auditstream/auditstream/topics"
)

// The ledger's entries are produced in the transaction of what they tell of:
// those of lines with the lines around them, that of an object with its last
// line or its dead letter. So the ledger holds neither more nor less than raw.

// apart are the lines of one piece of work that do not go to raw.
type apart struct {
	blank, tooLong []topics.LineRange
}

// tellBlank notes a blank line, and produces the entry when it is full.
func (s *Splitter) tellBlank(tx transaction, p *piece) {
	p.apart.blank = topics.AppendLine(p.apart.blank, p.object.FromLine)
	if len(p.apart.blank) == topics.MostRanges {
		s.tellLines(tx, p, &p.apart.blank, topics.OutcomeSkip, topics.ReasonBlank)
	}
}

func (s *Splitter) tellTooLong(tx transaction, p *piece) {
	p.apart.tooLong = topics.AppendLine(p.apart.tooLong, p.object.FromLine)
	if len(p.apart.tooLong) == topics.MostRanges {
		s.tellLines(tx, p, &p.apart.tooLong, topics.OutcomeDeadLetter, string(topics.ReasonLineTooLong))
	}
}

// tellApart produces what is noted of the piece's lines.
func (s *Splitter) tellApart(tx transaction, p *piece) {
	s.tellLines(tx, p, &p.apart.blank, topics.OutcomeSkip, topics.ReasonBlank)
	s.tellLines(tx, p, &p.apart.tooLong, topics.OutcomeDeadLetter, string(topics.ReasonLineTooLong))
}

// tellLines produces an entry for lines of one outcome, and forgets them.
func (s *Splitter) tellLines(tx transaction, p *piece, ranges *[]topics.LineRange, outcome topics.LedgerOutcome, reason string) {
	if len(*ranges) == 0 {
		return
	}
	entry := s.entry(p, topics.LedgerLines)
	entry.Outcome, entry.Reason, entry.Ranges = outcome, reason, *ranges
	entry.ID = topics.LinesEntryID(&entry, p.record.Topic, p.record.Partition, p.record.Offset)
	s.tell(tx, &entry)
	*ranges = nil
}

// tellObject produces the entry that ends a run through an object.
func (s *Splitter) tellObject(tx transaction, p *piece, outcome topics.LedgerOutcome, reason topics.Reason) {
	entry := s.entry(p, topics.LedgerObject)
	o := &p.object
	entry.ID = topics.ObjectEntryID(o.ID, o.Generation, p.record.Partition, o.Run.Offset)
	entry.Endpoint, entry.Bucket, entry.Key, entry.ETag, entry.Version = o.Endpoint, o.Bucket, o.Key, o.ETag, o.Version
	entry.Size, entry.Generation, entry.Splitting = max(o.Size, 0), o.Generation, o.Splitting
	entry.FirstLine, entry.Lines, entry.Bytes = min(o.Run.Line, o.FromLine), o.FromLine-1, o.FromByte
	entry.Outcome, entry.Reason = outcome, string(reason)
	s.tell(tx, &entry)
}

func (s *Splitter) entry(p *piece, kind topics.LedgerKind) topics.LedgerEntry {
	entry := topics.LedgerEntry{
		Kind: kind, Source: p.object.Source, Object: p.object.ID, Stage: Stage,
		ReceivedAt: p.received(), RecordedAt: time.Now().UnixMilli(),
	}
	if source := s.sources[p.object.Source]; source != nil {
		entry.Workspace, entry.TTLDays = source.Workspace, source.TTLDays
	}
	return entry
}

func (s *Splitter) tell(tx transaction, entry *topics.LedgerEntry) {
	record, err := entry.Record(s.opts.Topics.Ledger)
	if err != nil { // it is made of a valid object and of lines that were read
		s.log.Error("an entry of the ledger is not what it has to be", "id", entry.ID, "error", err)
		return
	}
	tx.Produce(record)
}

// received is when the store received the object, as its rows say. Before the
// store has said so it is what the announcement says; there are no rows then.
func (p *piece) received() int64 {
	o := &p.object
	switch {
	case p.receivedAt > 0:
		return p.receivedAt
	case o.Run.ReceivedAt > 0:
		return o.Run.ReceivedAt
	case !o.LastModified.IsZero():
		return max(o.LastModified.UnixMilli(), 0)
	case !o.AnnouncedAt.IsZero():
		return max(o.AnnouncedAt.UnixMilli(), 0)
	}
	return max(p.record.Timestamp.UnixMilli(), 0)
}

// begin says where the run begins that the piece is a part of.
func (p *piece) begin() {
	o := &p.object
	switch {
	case o.Cause.Announces():
		o.Run.Line, o.Run.Offset = o.FromLine, p.record.Offset
	case o.Run.Line == 0: // a link of a version without a ledger
		o.Run.Line, o.Run.Offset = 1, p.record.Offset
	}
}
