package enricher_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

// What is put back gives the one row that is missing, with its own id, or a dead
// letter that can be put back again.
func TestLinesPutBack(t *testing.T) {
	t.Parallel()
	k := newBroker(t, servers.Kafka(t))
	object := identity.ObjectID("aws", "bucket", "key", "etag")
	list := `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + eventLine + `,{"kind":"Pod"},` + eventLine + `]}`
	line := func(number int64, extent event.Extent, wanted int, text string) *kgo.Record {
		raw := topics.RawLine{
			Source: "prod", Object: object, Line: number, ReceivedAt: received, Bytes: []byte(text), Extent: extent, Event: wanted,
		}
		return raw.Record(k.names.Raw)
	}
	require.NoError(t, k.client.ProduceSync(t.Context(),
		line(1, event.PartOfLine, 4, eventLine),
		line(2, event.OneEvent, 2, list),
		line(3, event.RestOfLine, 1, list),
		line(4, event.PartOfLine, 4, list), // several by now
		line(5, event.OneEvent, 7, list),   // no such event
		line(6, event.OneEvent, 7, `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[]}`),
		line(7, event.PartOfLine, 3, `{"kind":`),
	).FirstErr())
	stop := k.start(prometheus.NewRegistry())
	rows := make(map[string]bool)
	for _, record := range k.read(k.names.Normalized, 3) {
		var row event.Row
		require.NoError(t, topics.DecodeNormalized(record.Value, &row))
		rows[string([]byte(row.ID))] = true
	}
	require.Equal(t, map[string]bool{
		identity.RowID(object, 1, 4): true, identity.RowID(object, 2, 2): true, identity.RowID(object, 3, 2): true,
	}, rows)
	type letter struct {
		reason topics.Reason
		extent event.Extent
		event  int
		bytes  string
	}
	got := make(map[int64]letter)
	for _, record := range k.read(k.names.DeadLetter, 5) {
		l, err := topics.DecodeDeadLetter(record)
		require.NoError(t, err)
		got[l.Line] = letter{l.Reason, l.Extent, l.Event, string(l.Bytes)}
	}
	stop()
	require.Equal(t, map[int64]letter{
		3: {topics.Reason(audit.NotAuditEvent), event.PartOfLine, 1, `{"kind":"Pod"}`},
		4: {topics.Reason(audit.UnsupportedFormat), event.PartOfLine, 4, list},
		5: {topics.Reason(audit.NotAuditEvent), event.OneEvent, 7, list},
		6: {topics.Reason(audit.NotAuditEvent), event.OneEvent, 7, `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[]}`},
		7: {topics.Reason(audit.NotJSON), event.PartOfLine, 3, `{"kind":`},
	}, got)
}
