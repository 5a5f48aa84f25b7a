package fetcher_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

// requireLedger compares what the ledger says of each object, but those passed
// over, with what is wanted, in short: where its runs end and why, and which
// lines are not in raw.
func (w *world) requireLedger(want map[string]string, passedOver ...string) {
	w.t.Helper()
	ended := func(records []*kgo.Record) bool {
		objects := map[string]bool{}
		for _, record := range records {
			if entry, err := topics.DecodeLedgerEntry(record.Value); err == nil && entry.Kind == topics.LedgerObject {
				objects[entry.Object] = true
			}
		}
		return len(objects) >= len(want)
	}
	ids := map[string]bool{}
	of := map[string][]string{}
	lines := map[string]map[string][]topics.LineRange{}
	for _, record := range w.committed(w.names.Ledger, ended) {
		entry, err := topics.DecodeLedgerEntry(record.Value)
		require.NoError(w.t, err)
		require.Equal(w.t, entry.Object, string(record.Key))
		require.False(w.t, ids[entry.ID], "entry %s is there twice", entry.ID)
		require.Positive(w.t, entry.ReceivedAt)
		ids[entry.ID] = true
		what := strings.TrimSpace(string(entry.Outcome) + " " + entry.Reason)
		if entry.Kind == topics.LedgerObject {
			require.NotEmpty(w.t, entry.Key)
			of[entry.Object] = append(of[entry.Object], fmt.Sprintf("g%d %d-%d %s", entry.Generation, entry.FirstLine, entry.Lines, what))
			continue
		}
		if lines[entry.Object] == nil {
			lines[entry.Object] = map[string][]topics.LineRange{}
		}
		lines[entry.Object][what] = append(lines[entry.Object][what], entry.Ranges...)
	}
	for object, outcomes := range lines {
		for what, ranges := range outcomes {
			slices.SortFunc(ranges, func(a, b topics.LineRange) int { return int(a[0] - b[0]) })
			of[object] = append(of[object], fmt.Sprint(what, ranges))
		}
	}
	got := map[string]string{}
	for object, texts := range of {
		if !slices.Contains(passedOver, object) {
			slices.Sort(texts)
			got[object] = strings.Join(texts, ", ")
		}
	}
	require.Equal(w.t, want, got)
}

// Aborted transactions leave nothing in the ledger, and slices no second entry.
func TestLedgerOfAbortedTransactions(t *testing.T) { servers.EachKafka(t, ledgerOfAborted) }

func ledgerOfAborted(t *testing.T, brokers []string) {
	w := newWorld(t, brokers...)
	want := make(expected)
	text := strings.ReplaceAll(numbered("aborted", 3000, 400), "\n", "\n\n")
	id := w.put("logs/aborted", []byte(text))
	want.lines(id, text)
	var aborted int
	w.start(func(o *fetcher.Options) { o.AtStep = abortEvery(3, &aborted) })
	w.requireRaw(want)
	require.Positive(t, aborted)
	var blank []topics.LineRange
	for line := int64(2); line <= 6000; line += 2 {
		blank = append(blank, topics.LineRange{line, line})
	}
	w.requireLedger(map[string]string{id: "g0 1-6000 complete, skip blank" + fmt.Sprint(blank)})
}
