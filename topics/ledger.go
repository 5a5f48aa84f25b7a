package topics

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/identity"
)

// LedgerKind says what an entry of the ledger is about.
type LedgerKind string

const (
	// LedgerObject ends a run through an object: how many lines it has, or where
	// and why it was set aside. It is in the transaction of the last lines.
	LedgerObject LedgerKind = "object"
	// LedgerLines are lines that did not become one row each. It is in the
	// transaction of what they became. A line without such an entry has one row.
	LedgerLines LedgerKind = "lines"
	// LedgerReplay says that rows are made again on purpose, so that a row is
	// rightly there twice until it has collapsed. It is there before the first.
	LedgerReplay LedgerKind = "replay"
)

// LedgerOutcome says what became of an object, or of lines.
type LedgerOutcome string

const (
	OutcomeComplete   LedgerOutcome = "complete"   // of an object: every line was fetched
	OutcomeDeadLetter LedgerOutcome = "deadletter" // set aside, for Reason
	OutcomeSkip       LedgerOutcome = "skip"       // of lines: rightly nothing, for Reason
	OutcomeEvents     LedgerOutcome = "events"     // of lines: several rows each
)

// ReasonBlank is the reason of skipped lines of white space or of nothing.
const ReasonBlank = "blank"

// LineRange is from one line to another, both counted from 1 and both meant.
type LineRange [2]int64

// MostRanges is how many ranges one entry holds; more make a further entry. It
// keeps the record far below what the topic takes.
const MostRanges = 4096

// LedgerEntry is one record of the topic `ledger`, and one row of its table.
// Workspace, Source, ReceivedAt and ID are the table's sorting key, so they are
// a function of what the entry is about.
type LedgerEntry struct {
	ID         string     `json:"id"`
	Kind       LedgerKind `json:"kind"`
	Workspace  string     `json:"workspace"`
	Source     string     `json:"source"`
	TTLDays    uint32     `json:"ttlDays,omitempty"`
	ReceivedAt int64      `json:"receivedAt"` // ms; of the object, as in its rows
	RecordedAt int64      `json:"recordedAt"` // ms
	Object     string     `json:"object,omitempty"`

	// Of an object.
	Endpoint   string    `json:"endpoint,omitempty"` // alias
	Bucket     string    `json:"bucket,omitempty"`
	Key        string    `json:"key,omitempty"`
	ETag       string    `json:"etag,omitempty"`
	Version    string    `json:"version,omitempty"`
	Size       int64     `json:"size,omitempty"` // bytes stored, as announced
	Generation int       `json:"generation,omitempty"`
	Splitting  Splitting `json:"splitting,omitempty"`
	FirstLine  int64     `json:"firstLine,omitempty"` // where this run began
	Lines      int64     `json:"lines,omitempty"`     // the last line of this run
	Bytes      int64     `json:"bytes,omitempty"`     // decompressed, up to there

	// Of an object or of lines.
	Stage   string        `json:"stage,omitempty"`
	Outcome LedgerOutcome `json:"outcome,omitempty"`
	Reason  string        `json:"reason,omitempty"` // of a dead letter or a skip

	// Of lines.
	Ranges []LineRange `json:"ranges,omitempty"`
	Rows   int64       `json:"rows,omitempty"` // that each of them gave, too

	// Of a replay. What is empty or 0 is not bounded. Since and Until are about
	// ReceivedAt, from Since to before Until.
	Table string `json:"table,omitempty"`
	Since int64  `json:"since,omitempty"` // ms
	Until int64  `json:"until,omitempty"` // ms
}

// ObjectEntryID names a run: of the announcement at this place in `objects`.
func ObjectEntryID(object string, generation int, partition int32, offset int64) string {
	return fmt.Sprintf("%s-g%d-%d-%d", object, generation, partition, offset)
}

// LinesEntryID names lines of one outcome by the first of them, and by the
// record that this one, or the lines together, came from.
func LinesEntryID(entry *LedgerEntry, topic string, partition int32, offset int64) string {
	first := int64(0)
	if len(entry.Ranges) > 0 {
		first = entry.Ranges[0][0]
	}
	return fmt.Sprintf("%s-%s-%s-%s-%d-%d-%s/%d/%d",
		entry.Object, entry.Stage, entry.Outcome, entry.Reason, entry.Rows, first, topic, partition, offset)
}

// ReplayEntry is what a replay has to have in the ledger before its first
// insert: that rows of source (any, if empty), of object (an object id; any, if
// empty), whose receivedAt is from since to before until (ms; 0 is no bound),
// come again into table.
func ReplayEntry(run, source, object, table string, since, until, now int64) LedgerEntry {
	return LedgerEntry{
		ID: "replay-" + run, Kind: LedgerReplay, Source: source, Object: object, Table: table,
		ReceivedAt: now, RecordedAt: now, Since: since, Until: until,
	}
}

// Covers tells whether a replay made the rows of an object again in a table.
func (e *LedgerEntry) Covers(table, source, object string, receivedAt int64) bool {
	return e.Kind == LedgerReplay &&
		(e.Table == "" || e.Table == table) && (e.Source == "" || e.Source == source) && (e.Object == "" || e.Object == object) &&
		(e.Since == 0 || receivedAt >= e.Since) && (e.Until == 0 || receivedAt < e.Until)
}

// Record encodes the entry. Its key is the object id, for a replay its own.
func (e *LedgerEntry) Record(topic string) (*kgo.Record, error) {
	if err := e.validate(); err != nil {
		return nil, fmt.Errorf("encode ledger entry %s: %w", e.ID, err)
	}
	value, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode ledger entry %s: %w", e.ID, err)
	}
	key := e.Object
	if key == "" {
		key = e.ID
	}
	return &kgo.Record{Topic: topic, Key: []byte(key), Value: value}, nil
}

// DecodeLedgerEntry decodes a record's value. Fields it doesn't know are those
// of a newer version and are passed over. The error wraps ErrMalformed.
func DecodeLedgerEntry(value []byte) (LedgerEntry, error) {
	var e LedgerEntry
	if err := json.Unmarshal(value, &e); err != nil {
		return LedgerEntry{}, fmt.Errorf("%w: ledger entry: %w", ErrMalformed, err)
	}
	if err := e.validate(); err != nil {
		return LedgerEntry{}, fmt.Errorf("%w: ledger entry: %w", ErrMalformed, err)
	}
	return e, nil
}

func (e *LedgerEntry) validate() error {
	switch {
	case e.ID == "" || e.Kind == "":
		return errors.New("id and kind must be set")
	case e.ReceivedAt < 0 || e.Size < 0 || e.Generation < 0 || e.Bytes < 0 || e.Rows < 0:
		return errors.New("a number is negative")
	case e.Kind == LedgerReplay:
		return nil
	case len(e.Object) != identity.ObjectIDLength:
		return fmt.Errorf("%q is not an object id", e.Object)
	case e.Outcome == "":
		return errors.New("outcome must be set")
	case e.Kind == LedgerObject && (e.FirstLine < 1 || e.Lines < e.FirstLine-1):
		return fmt.Errorf("from line %d to line %d is no run", e.FirstLine, e.Lines)
	case e.Kind == LedgerLines && (len(e.Ranges) == 0 || len(e.Ranges) > MostRanges):
		return fmt.Errorf("%d ranges of lines", len(e.Ranges))
	}
	for _, lines := range e.Ranges {
		if lines[0] < 1 || lines[1] < lines[0] {
			return fmt.Errorf("lines %d to %d are no range", lines[0], lines[1])
		}
	}
	return nil
}

// AppendLine adds a line to ranges that are in order, the line behind them.
func AppendLine(ranges []LineRange, line int64) []LineRange {
	if last := len(ranges) - 1; last >= 0 && ranges[last][1]+1 == line {
		ranges[last][1] = line
		return ranges
	}
	return append(ranges, LineRange{line, line})
}
