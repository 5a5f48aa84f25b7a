package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/event"
)

func TestExplainNamesTheMembers(t *testing.T) {
	inner := `{\"kind\":\"Event\",\"auditID\":\"1\",\"verb\":\"get\",\"requestURI\":\"/healthz\",\"stageTimestamp\":\"2020-01-01T00:00:00Z\"}`
	line := `{"messageType":"DATA_MESSAGE","logEvents":[{"message":"x"},{"message":"` + inner + `"}],"stream":"stdout"}`
	from := map[string]string{}
	NewNormalizer(nil).Explain(testSource, Line{Bytes: []byte(line), ObjectID: testObject, Number: 1}, func(_ *event.Row, origins []Origin) {
		for _, origin := range origins {
			from[origin.Column] = origin.From
		}
	})
	require.Equal(t, "logEvents[1].message.auditID", from["auditID"])
	require.Equal(t, "logEvents[1].message.stageTimestamp", from["eventTime"])
	require.Equal(t, "logEvents[1].message.verb, logEvents[1].message.requestURI", from["eventName"])
	require.Equal(t, "stream", from["stream"])
	require.Empty(t, from["userAgent"])
}

// TestExplainHasEveryColumn checks the names against the samples: 69, none
// twice, for every row.
func TestExplainHasEveryColumn(t *testing.T) {
	samples, err := filepath.Glob("testdata/*.ndjson")
	require.NoError(t, err)
	normalizer, rows := NewNormalizer(nil), 0
	for _, sample := range samples {
		data, err := os.ReadFile(sample)
		require.NoError(t, err)
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			normalizer.Explain(goldenSource, Line{Bytes: line, ObjectID: testObject, Number: 1}, func(_ *event.Row, origins []Origin) {
				rows++
				seen := map[string]bool{}
				for _, origin := range origins {
					seen[origin.Column] = true
				}
				require.Len(t, origins, 69)
				require.Len(t, seen, 69)
			})
		}
	}
	require.NotZero(t, rows)
}
