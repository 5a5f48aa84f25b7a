package deadletter_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/services/auditstream/deadletter"
	"github.com/auditstream/auditstream/tests/golden"
	"github.com/auditstream/auditstream/topics"
)

func samples() []*deadletter.Letter {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return []*deadletter.Letter{
		{Position: deadletter.Position{Partition: 1, Offset: 7}, At: at.Add(time.Second), Length: 14, Letter: topics.DeadLetterRecord{
			Stage: "enricher", Reason: "not-json", Error: "no JSON at byte 3,\n\x1b[31mand red", Topic: "raw", Partition: 3, Offset: 4711,
			Source: "prod", Object: object, Line: 42, Event: 2, Extent: event.PartOfLine, ReceivedAt: 1_767_225_600_123,
			Bytes: []byte("{\"a\": <b>\x00\xff\x1b\n}"),
		}, URI: "s3://audit/a.gz"},
		{Position: deadletter.Position{Partition: 0, Offset: 9}, At: at, Length: 9, Retried: at.Add(time.Hour), Letter: topics.DeadLetterRecord{
			Stage: "fetcher", Reason: "line-too-long", Error: "the line has 100 bytes, the limit is 10", Topic: "objects", Offset: 1,
			Source: "prod", Object: object, Line: 3, Size: 100, Bytes: []byte(`{"kind":"`),
		}},
	}
}

func TestPrint(t *testing.T) {
	var out strings.Builder
	require.NoError(t, deadletter.Table(&out, samples()))
	golden.Equal(t, "testdata/table.golden", out.String())
	out.Reset()
	require.NoError(t, deadletter.JSON(&out, samples()))
	golden.Equal(t, "testdata/json.golden", out.String())
	out.Reset()
	counts := make(deadletter.Summary)
	for _, letter := range append(samples(), samples()[0]) {
		counts.Add(letter)
	}
	require.NoError(t, counts.Print(&out, false))
	require.NoError(t, counts.Print(&out, true))
	golden.Equal(t, "testdata/summary.golden", out.String())
	out.Reset()
	for _, letter := range samples() {
		require.NoError(t, deadletter.Show(&out, letter, false))
		require.NoError(t, deadletter.Show(&out, letter, true))
	}
	golden.Equal(t, "testdata/show.golden", out.String())
	require.NotContains(t, out.String(), "\x1b")
}

func TestPosition(t *testing.T) {
	position, err := deadletter.ParsePosition("3/1099511627776")
	require.NoError(t, err)
	require.Equal(t, deadletter.Position{Partition: 3, Offset: 1 << 40}, position)
	require.Equal(t, "3/1099511627776", position.String())
	for _, text := range []string{"", "3", "3/", "/3", "-1/3", "3/-1", "a/b", "3/4/5", "99999999999/1"} {
		_, err := deadletter.ParsePosition(text)
		require.Error(t, err, text)
	}
}
