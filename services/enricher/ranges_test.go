package enricher

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/topics"
)

// More ranges than fit into an entry make a further one, under another id; a
// line that comes twice in a transaction is told of once.
func TestEntriesAreBounded(t *testing.T) {
	const bad = topics.MostRanges + 10
	var gathered ledger
	var others []other
	for i := range bad {
		o := other{line: int64(2*i + 1), record: &kgo.Record{Topic: "raw", Offset: int64(i)}}
		o.object, o.alike.source, o.outcome, o.reason = strings.Repeat("a", 32), "prod", topics.OutcomeDeadLetter, "not-json"
		others = append(others, o)
		if i%100 == 0 {
			others = append(others, o)
		}
	}
	gathered.add(others)
	lines, ids := map[int64]int{}, map[string]bool{}
	require.NoError(t, gathered.tell("ledger", func(record *kgo.Record) {
		require.Less(t, len(record.Value), topics.RecordOverhead/2)
		entry, err := topics.DecodeLedgerEntry(record.Value)
		require.NoError(t, err)
		ids[entry.ID] = true
		for _, r := range entry.Ranges {
			for line := r[0]; line <= r[1]; line++ {
				lines[line]++
			}
		}
	}))
	require.Len(t, ids, 2)
	require.Len(t, lines, bad)
	for line, times := range lines {
		require.Equal(t, 1, times, "line %d", line)
	}
	require.Empty(t, gathered.others)
}
