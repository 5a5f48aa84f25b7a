package topics

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func sampleObjectEntry() LedgerEntry {
	object := sampleObject()
	return LedgerEntry{
		ID: ObjectEntryID(object.ID, 1, 3, 42), Kind: LedgerObject, Workspace: "platform", Source: object.Source, TTLDays: 365,
		ReceivedAt: 1767225600123, RecordedAt: 1767225660000, Object: object.ID, Endpoint: object.Endpoint,
		Bucket: object.Bucket, Key: object.Key, ETag: object.ETag, Version: object.Version, Size: object.Size,
		Generation: 1, Splitting: SplitLines, FirstLine: 101, Lines: 4710, Bytes: 8388608,
		Stage: "fetcher", Outcome: OutcomeDeadLetter, Reason: string(ReasonObjectChanged),
	}
}

func sampleLinesEntry() LedgerEntry {
	entry := LedgerEntry{
		Kind: LedgerLines, Workspace: "platform", Source: "prod-eu", TTLDays: 365, ReceivedAt: 1767225600123, RecordedAt: 1767225660000,
		Object: sampleObject().ID, Stage: "enricher", Outcome: OutcomeDeadLetter, Reason: "not-json",
		Ranges: []LineRange{{3, 3}, {17, 90}}, Rows: 2,
	}
	entry.ID = LinesEntryID(&entry, "prefix.raw", 2, 77)
	return entry
}

func TestLedgerRecords(t *testing.T) {
	for name, entry := range map[string]LedgerEntry{
		"ledger-object": sampleObjectEntry(),
		"ledger-lines":  sampleLinesEntry(),
		"ledger-replay": ReplayEntry("2026-01-31T12:00:00Z-one", "prod-eu", "", "kubernetes_audit_logs", 1767225600000, 1767312000000, 1767398400000),
	} {
		t.Run(name, func(t *testing.T) {
			record, err := entry.Record(Ledger)
			require.NoError(t, err)
			requireGoldenRecord(t, name, record)
			decoded, err := DecodeLedgerEntry(record.Value)
			require.NoError(t, err)
			require.Equal(t, entry, decoded)
		})
	}
}

func TestLedgerRefusesWhatIsNoEntry(t *testing.T) {
	for name, spoil := range map[string]func(*LedgerEntry){
		"no id":             func(e *LedgerEntry) { e.ID = "" },
		"no kind":           func(e *LedgerEntry) { e.Kind = "" },
		"no object":         func(e *LedgerEntry) { e.Object = "" },
		"no outcome":        func(e *LedgerEntry) { e.Outcome = "" },
		"no ranges":         func(e *LedgerEntry) { e.Ranges = nil },
		"too many ranges":   func(e *LedgerEntry) { e.Ranges = make([]LineRange, MostRanges+1) },
		"line 0":            func(e *LedgerEntry) { e.Ranges[0][0] = 0 },
		"backwards":         func(e *LedgerEntry) { e.Ranges[1][1] = 16 },
		"before all times":  func(e *LedgerEntry) { e.ReceivedAt = -1 },
		"no line, backward": func(e *LedgerEntry) { e.Kind, e.FirstLine, e.Lines = LedgerObject, 3, 1 },
		"no first line":     func(e *LedgerEntry) { e.Kind, e.FirstLine, e.Lines = LedgerObject, 0, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			entry := sampleLinesEntry()
			spoil(&entry)
			_, err := entry.Record(Ledger)
			require.Error(t, err)
			value, err := json.Marshal(entry)
			require.NoError(t, err)
			_, err = DecodeLedgerEntry(value)
			require.ErrorIs(t, err, ErrMalformed)
		})
	}
}

func TestReplayCovers(t *testing.T) {
	object := sampleObject().ID
	all := ReplayEntry("1", "", "", "", 0, 0, 5)
	require.True(t, all.Covers("logs", "a", object, 0))
	bounded := ReplayEntry("2", "a", object, "logs", 10, 20, 5)
	require.True(t, bounded.Covers("logs", "a", object, 10))
	for name, covers := range map[string]bool{
		"another table":  bounded.Covers("other", "a", object, 10),
		"another source": bounded.Covers("logs", "b", object, 10),
		"another object": bounded.Covers("logs", "a", "x", 10),
		"before":         bounded.Covers("logs", "a", object, 9),
		"after":          bounded.Covers("logs", "a", object, 20),
	} {
		require.False(t, covers, name)
	}
}

func TestAppendLine(t *testing.T) {
	var ranges []LineRange
	for _, line := range []int64{1, 2, 3, 7, 9, 10} {
		ranges = AppendLine(ranges, line)
	}
	require.Equal(t, []LineRange{{1, 3}, {7, 7}, {9, 10}}, ranges)
}
