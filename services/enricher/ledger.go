package enricher

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/topics"
)

// became is what one line turned into.
type became struct {
	rows    int
	letters []topics.Reason // each once; hardly ever more than one
	skip    audit.Skip
}

func (b *became) rejected(reason topics.Reason) {
	if !slices.Contains(b.letters, reason) {
		b.letters = append(b.letters, reason)
	}
}

func (b *became) skipped(reason audit.Skip) {
	if b.skip == "" {
		b.skip = reason
	}
}

// alike is what lines have in common that one entry of the ledger tells of.
type alike struct {
	object, source string
	receivedAt     int64
	outcome        topics.LedgerOutcome
	reason         string
	rows           int
}

// other is a line that did not become just one row.
type other struct {
	alike
	line   int64
	record *kgo.Record
	source *audit.Source
}

// note remembers what the line at hand became, unless that is one row: that
// much holds for nearly all of them, and goes without saying.
func (w *worker) note() {
	b := &w.became
	if b.rows == 1 && len(b.letters) == 0 {
		return
	}
	kind := alike{object: w.line.Object, receivedAt: w.line.ReceivedAt, rows: b.rows}
	kind.source = w.line.Source[:min(len(w.line.Source), maxSource)]
	add := func(outcome topics.LedgerOutcome, reason string) {
		kind.outcome, kind.reason = outcome, reason
		w.block.others = append(w.block.others, other{kind, w.line.Line, w.record, w.source})
	}
	switch {
	case len(b.letters) > 0:
		for _, reason := range b.letters {
			add(topics.OutcomeDeadLetter, string(reason))
		}
	case b.rows > 1:
		add(topics.OutcomeEvents, "")
	default:
		add(topics.OutcomeSkip, string(b.skip))
	}
}

// ledger gathers what one transaction has to tell the ledger.
type ledger struct{ others []other }

func (l *ledger) add(others []other) { l.others = append(l.others, others...) }

// tell produces an entry for all lines that are alike, into the transaction
// that their outcomes are in.
func (l *ledger) tell(topic string, produce func(*kgo.Record)) error {
	defer func() { l.others = nil }()
	slices.SortFunc(l.others, func(a, b other) int {
		return cmp.Or(strings.Compare(a.object, b.object), strings.Compare(a.alike.source, b.alike.source), cmp.Compare(a.receivedAt, b.receivedAt),
			strings.Compare(string(a.outcome), string(b.outcome)), strings.Compare(a.reason, b.reason), cmp.Compare(a.rows, b.rows),
			cmp.Compare(a.line, b.line))
	})
	for rest := l.others; len(rest) > 0; {
		first := &rest[0]
		var ranges []topics.LineRange
		n := 0
		for n < len(rest) && rest[n].alike == first.alike {
			if n > 0 && rest[n].line == rest[n-1].line {
				n++ // an object that was announced again, in one transaction with itself
				continue
			}
			grown := topics.AppendLine(ranges, rest[n].line)
			if len(grown) > topics.MostRanges {
				break
			}
			ranges = grown
			n++
		}
		rest = rest[n:]
		record, err := first.entry(ranges).Record(topic)
		if err != nil {
			return fmt.Errorf("lines of object %s: %w", first.object, err)
		}
		produce(record)
	}
	return nil
}

func (o *other) entry(ranges []topics.LineRange) *topics.LedgerEntry {
	entry := &topics.LedgerEntry{
		Kind: topics.LedgerLines, Source: o.alike.source, Object: o.object, ReceivedAt: o.receivedAt, RecordedAt: time.Now().UnixMilli(),
		Stage: Stage, Outcome: o.outcome, Reason: o.reason, Ranges: ranges, Rows: int64(o.rows),
	}
	if o.source != nil {
		entry.Workspace, entry.TTLDays = o.source.WorkspaceID, o.source.TTLDays
	}
	entry.ID = topics.LinesEntryID(entry, o.record.Topic, o.record.Partition, o.record.Offset)
	return entry
}
