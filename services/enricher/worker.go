package enricher

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/topics"
)

// block is a run of lines and what became of them.
type block struct {
	lines   []*kgo.Record
	records []kgo.Record
	arena   arena
	tally   tally
	others  []other
	ready   chan struct{}
}

func (b *block) reset(lines []*kgo.Record) {
	b.lines = lines
	clear(b.records)
	b.records = b.records[:0]
	b.arena.reset()
	b.tally = tally{}
	b.others = b.others[:0]
	b.ready = make(chan struct{})
}

// worker normalizes lines on one goroutine at a time.
type worker struct {
	work       *work
	normalizer *audit.Normalizer
	emit       func(*event.Row)

	// Of the line at hand.
	block  *block
	line   topics.RawLine
	record *kgo.Record
	source *audit.Source // nil when it is not known
	became became
}

func newWorker(work *work, normalizer *audit.Normalizer) *worker {
	w := &worker{work: work, normalizer: normalizer}
	w.emit = w.row
	return w
}

func (w *worker) do(b *block) {
	w.block = b
	for _, record := range b.lines {
		w.take(record)
	}
	w.block, w.record, w.source = nil, nil, nil
	close(b.ready)
}

// take gives one line its outcomes.
func (w *worker) take(record *kgo.Record) {
	w.record = record
	tally := &w.block.tally
	tally.lines++
	tally.bytesIn += len(record.Value)

	line, err := topics.DecodeRawLine(record)
	w.line, w.source, w.became = line, nil, became{}
	if err != nil {
		// Of no line that is known, so nothing for the ledger either.
		w.reject(topics.ReasonMalformedRecord, err.Error(), record.Value, 0)
		return
	}
	source, known := w.work.sources[line.Source]
	if !known {
		w.reject(topics.ReasonUnknownSource, fmt.Sprintf("source %q is not in the configuration", line.Source), line.Bytes, 0)
		w.note()
		return
	}
	w.source = source
	before := len(w.block.records)
	result := w.normalizer.Normalize(source, audit.Line{
		Bytes: line.Bytes, ObjectID: line.Object, Number: line.Line, ReceivedAt: line.ReceivedAt,
		Extent: line.Extent, Event: line.Event,
	}, w.emit)
	if line.Extent == event.PartOfLine && result.Rows+len(result.Rejections) > 1 {
		// The numbers after it are those of the line's other events.
		w.takeBack(before)
		w.reject(topics.Reason(audit.UnsupportedFormat), errSeveral.Error(), line.Bytes, line.Event)
		w.note()
		return
	}
	for i := range result.Rejections {
		rejection := &result.Rejections[i]
		w.reject(topics.Reason(rejection.Reason), rejection.Detail, rejection.Part, rejection.Event)
	}
	chosen := line.Extent == event.OneEvent || line.Extent == event.RestOfLine
	if !chosen { // what is not meant was counted before
		for _, skip := range result.Skips {
			tally.skip(skip.Reason, skip.Count)
			w.became.skipped(skip.Reason)
		}
	}
	if len(w.block.records) == before && (chosen || len(result.Skips) == 0) {
		// Of a line in which one event is meant, that has no such event. Otherwise the
		// normalizer promises that it can't be; a line must not vanish if it errs.
		w.reject(topics.Reason(audit.NotAuditEvent), errNoOutcome.Error(), line.Bytes, line.Event)
	}
	w.note()
}

var (
	errNoOutcome = errors.New("the line gave no outcome")
	errSeveral   = errors.New("this part of a line gives several events by now, of which only one can be numbered; fetch the object again")
)

// takeBack forgets the rows from one on.
func (w *worker) takeBack(from int) {
	b := w.block
	for i := range b.records[from:] {
		if record := &b.records[from+i]; record.Topic == w.work.names.Normalized {
			b.tally.bytesOut -= len(record.Value)
			b.tally.rows--
		}
	}
	b.records = b.records[:from]
	w.became = became{}
}

// row encodes one event. What the row points to is gone after it.
func (w *worker) row(row *event.Row) {
	b := w.block
	value := b.arena.append(2*len(row.RawLog)+rowOverhead, func(dst []byte) []byte {
		return topics.AppendNormalized(dst, row)
	})
	if len(value) > w.work.limits.normalized {
		_, _, number, _ := identity.ParseRowID(row.ID)
		w.reject(topics.ReasonLineTooLong, fmt.Sprintf("the normalized record has %d bytes, %d fit into the topic",
			len(value), w.work.limits.normalized), row.RawLog, number)
		return
	}
	b.records = append(b.records, kgo.Record{
		Topic: w.work.names.Normalized,
		Key:   b.arena.copyText(PartitionKey(row.ID)),
		Value: value,
	})
	b.tally.rows++
	w.became.rows++
	b.tally.bytesOut += len(value)
}

// rowOverhead is what a row has beside copies of the line's text, usually.
const rowOverhead = 1024

// PartitionKey makes the same row come to the same partition whenever it comes
// again, and so to the same shard of the table, where it collapses with itself.
// A thousand lines of an object share a key: batches stay together, a large
// object spreads.
func PartitionKey(id string) string {
	const key = identity.ObjectIDLength + 1 + 9
	if len(id) < key {
		return id
	}
	return id[:key]
}

// reject makes a dead letter. The bytes are copied: they may lie in the
// normalizer's buffers.
func (w *worker) reject(reason topics.Reason, detail string, part []byte, number int) {
	extent := w.extent(part, number)
	size := 0
	if limit := w.work.limits.deadLetter; len(part) > limit {
		size = len(part)
		detail = fmt.Sprintf("%s (cut, it has %d bytes)", detail, len(part))
		part = part[:limit]
	}
	object := w.line.Object
	if len(object) != identity.ObjectIDLength {
		object = ""
	}
	letter := topics.DeadLetterRecord{
		Stage:      Stage,
		Reason:     reason,
		Error:      detail,
		Topic:      w.record.Topic,
		Partition:  w.record.Partition,
		Offset:     w.record.Offset,
		Source:     w.line.Source[:min(len(w.line.Source), maxSource)],
		Object:     object,
		Line:       max(w.line.Line, 0),
		Event:      number,
		ReceivedAt: max(w.line.ReceivedAt, 0),
		Extent:     extent,
		Bytes:      w.block.arena.copy(part),
		Size:       int64(size),
	}
	w.block.records = append(w.block.records, *letter.Record(w.work.names.DeadLetter))
	w.block.tally.reject(reason)
	w.became.rejected(reason)
	w.block.tally.bytesOut += len(part)
}

// extent says what of the line a dead letter holds. Only a part is shorter than
// the line.
func (w *worker) extent(part []byte, number int) event.Extent {
	switch {
	case w.line.Extent == event.PartOfLine, len(part) < len(w.record.Value):
		return event.PartOfLine
	case w.line.Extent != event.WholeLine:
		return w.line.Extent
	case number > 0:
		return event.RestOfLine
	}
	return event.WholeLine
}

// maxSource is more than any configured source id; a header can be anything.
const maxSource = 1024
