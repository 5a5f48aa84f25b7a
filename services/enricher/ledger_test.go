package enricher_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/topics"
)

// ledger is what it says of the lines, in short.
func (k *broker) ledger(count int) []string {
	k.t.Helper()
	var told []string
	for _, record := range k.read(k.names.Ledger, count) {
		entry, err := topics.DecodeLedgerEntry(record.Value)
		require.NoError(k.t, err)
		require.Equal(k.t, entry.Object, string(record.Key))
		require.Equal(k.t, topics.LedgerLines, entry.Kind)
		require.EqualValues(k.t, received, entry.ReceivedAt)
		told = append(told, fmt.Sprintf("%s/%s %s %s rows %d %v", entry.Workspace, entry.Source, entry.Outcome, entry.Reason, entry.Rows, entry.Ranges))
	}
	return told
}

// The ledger is told of every line that is not one row, and of no other.
func TestLedgerOfLines(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, k *broker) {
		object := identity.ObjectID("aws", "b", "k", "e")
		list := func(n int) string {
			return `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + strings.Repeat(eventLine+",", n-1) + eventLine + `]}`
		}
		texts := []string{eventLine, "no", "no", " ", eventLine, "no", list(3), list(3), list(2), list(1), `{"kind":"Pod"}`, `[]`, eventLine}
		records := make([]*kgo.Record, 0, len(texts))
		for i, text := range texts {
			raw := topics.RawLine{Source: "prod", Object: object, Line: int64(i + 1), ReceivedAt: received, Bytes: []byte(text)}
			records = append(records, raw.Record(k.names.Raw))
			records[i].Partition = 1 // one fetch, and so one transaction
		}
		manual, err := kgo.NewClient(kgo.SeedBrokers(k.addresses...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		require.NoError(t, err)
		defer manual.Close()
		require.NoError(t, manual.ProduceSync(t.Context(), records...).FirstErr())
		k.start(prometheus.NewRegistry())
		require.ElementsMatch(t, []string{
			"acme/prod deadletter not-json rows 0 [[2 3] [6 6]]",
			"acme/prod skip blank rows 0 [[4 4]]",
			"acme/prod events  rows 3 [[7 8]]",
			"acme/prod events  rows 2 [[9 9]]",
			"acme/prod deadletter not-audit-event rows 0 [[11 11]]",
			"acme/prod skip empty-list rows 0 [[12 12]]",
		}, k.ledger(6))
	})
}
