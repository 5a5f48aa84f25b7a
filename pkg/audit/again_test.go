package audit

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
)

// Of a line that is done again only what is meant comes out, with the numbers
// that it has in the whole line.
func TestLineDoneAgainForSomeOfItsEvents(t *testing.T) {
	item := func(id string) string {
		return `{"kind":"Event","auditID":"` + id + `","stage":"ResponseComplete","verb":"get"}`
	}
	pod := `{"kind":"Pod"}`
	list := `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` +
		strings.Join([]string{item("a"), pod, item("c"), `7`, item("e")}, ",") + `]}`
	type outcome struct {
		id, auditID string
		rejected    int // -1 for a row
	}
	row := func(number int, auditID string) outcome {
		return outcome{identity.RowID(testObject, 9, number), auditID, -1}
	}
	normalizer := NewNormalizer(nil)
	for name, test := range map[string]struct {
		bytes  string
		extent event.Extent
		event  int
		want   []outcome
	}{
		"all":                   {list, event.WholeLine, 0, []outcome{row(0, "a"), row(2, "c"), row(4, "e"), {rejected: 1}, {rejected: 3}}},
		"the first":             {list, event.OneEvent, 0, []outcome{row(0, "a")}},
		"one in the middle":     {list, event.OneEvent, 2, []outcome{row(2, "c")}},
		"one that is none":      {list, event.OneEvent, 3, []outcome{{rejected: 3}}},
		"one that is not there": {list, event.OneEvent, 5, nil},
		"the rest":              {list, event.RestOfLine, 3, []outcome{row(4, "e"), {rejected: 3}}},
		"a part":                {item("c"), event.PartOfLine, 2, []outcome{row(2, "c")}},
		"the first part":        {item("a"), event.PartOfLine, 0, []outcome{row(0, "a")}},
		"a part that is none":   {pod, event.PartOfLine, 1, []outcome{{rejected: 1}}},
		"a part that is broken": {`{"kind":`, event.PartOfLine, 1, []outcome{{rejected: 1}}},
		"concatenated":          {item("a") + item("b") + item("c"), event.OneEvent, 1, []outcome{row(1, "b")}},
		"in an array":           {`[` + item("a") + `,` + item("b") + `]`, event.RestOfLine, 1, []outcome{row(1, "b")}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []outcome
			result := normalizer.Normalize(testSource, Line{
				Bytes: []byte(test.bytes), ObjectID: testObject, Number: 9, Extent: test.extent, Event: test.event,
			}, func(row *event.Row) {
				got = append(got, outcome{strings.Clone(row.ID), strings.Clone(row.AuditID), -1})
			})
			require.Len(t, got, result.Rows)
			for _, rejection := range result.Rejections {
				got = append(got, outcome{rejected: rejection.Event})
			}
			require.Equal(t, test.want, got)
		})
	}
}
