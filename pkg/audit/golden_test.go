package audit

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/tests/golden"
)

// goldenSource is what the samples come from.
var goldenSource = &Source{
	WorkspaceID: "acme", ID: "prod", Type: "kubernetes-audit", TTLDays: 365,
	Tags:           event.Map{{Key: "team", Value: "platform"}},
	APIServerIP:    netip.MustParseAddr("192.0.2.10"),
	TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	EventKeys:      []string{"payload"},
}

// goldenLocator knows one address, to show that what it says arrives.
type goldenLocator struct{}

func (goldenLocator) Locate(addr netip.Addr, into *event.Endpoint) string {
	if addr != netip.MustParseAddr("198.51.100.7") {
		return ""
	}
	into.ASCountryCode, into.City, into.ASNumber, into.ASOrganization = "SE", "Linköping", 64500, "Example Net"
	into.Latitude, into.Longitude = 58.41, 15.62
	return "vpn,hosting"
}

// goldenLine is what became of one line of a sample.
type goldenLine struct {
	Line     int
	Rows     []map[string]any  `json:",omitempty"`
	Rejected []goldenRejection `json:",omitempty"`
	Skipped  []Skipped         `json:",omitempty"`
}

type goldenRejection struct {
	Reason Reason
	Detail string
	Event  int
	Bytes  int
}

// TestGolden compares the outcomes of our own samples of every shape, column by
// column. A column that is empty is left out of the golden file.
func TestGolden(t *testing.T) {
	samples, err := filepath.Glob("testdata/*.ndjson")
	require.NoError(t, err)
	require.NotEmpty(t, samples)
	normalizer := NewNormalizer(goldenLocator{})
	for _, sample := range samples {
		t.Run(filepath.Base(sample), func(t *testing.T) {
			data, err := os.ReadFile(sample)
			require.NoError(t, err)
			var outcomes []goldenLine
			for i, text := range bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
				outcome := goldenLine{Line: i + 1}
				line := Line{Bytes: text, ObjectID: testObject, Number: int64(i + 1), ReceivedAt: 1_770_113_999_999}
				result := normalizer.Normalize(goldenSource, line, func(row *event.Row) {
					outcome.Rows = append(outcome.Rows, goldenRow(t, row, text))
				})
				for _, r := range result.Rejections {
					outcome.Rejected = append(outcome.Rejected, goldenRejection{r.Reason, r.Detail, r.Event, len(r.Part)})
				}
				outcome.Skipped = append(outcome.Skipped, result.Skips...)
				outcomes = append(outcomes, outcome)
			}
			var got bytes.Buffer
			encoder := json.NewEncoder(&got)
			encoder.SetEscapeHTML(false)
			encoder.SetIndent("", "  ")
			require.NoError(t, encoder.Encode(outcomes))
			golden.Equal(t, strings.TrimSuffix(sample, ".ndjson")+".golden.json", got.String())
		})
	}
}

// goldenRow is the row as JSON, without what is empty or the same in all.
func goldenRow(t *testing.T, row *event.Row, line []byte) map[string]any {
	requireValidTexts(t, row)
	raw := "the line"
	if !bytes.Equal(row.RawLog, line) {
		raw = string(row.RawLog)
	}
	encoded, err := json.Marshal(row)
	require.NoError(t, err)
	var columns map[string]any
	require.NoError(t, json.Unmarshal(encoded, &columns))
	columns["RawLog"] = raw
	return withoutEmpty(columns)
}

func withoutEmpty(columns map[string]any) map[string]any {
	for name, value := range columns {
		switch value := value.(type) {
		case nil:
			delete(columns, name)
		case string:
			if value == "" {
				delete(columns, name)
			}
		case float64:
			if value == 0 {
				delete(columns, name)
			}
		case []any:
			if len(value) == 0 {
				delete(columns, name)
			}
			if name == "Actor" || name == "Tags" {
				columns[name] = pairsOf(value)
			}
		case map[string]any:
			if len(withoutEmpty(value)) == 0 {
				delete(columns, name)
			}
		}
	}
	return columns
}

func pairsOf(list []any) map[string]any {
	pairs := map[string]any{}
	for _, entry := range list {
		pair := entry.(map[string]any)
		pairs[pair["Key"].(string)] = pair["Value"]
	}
	return pairs
}
