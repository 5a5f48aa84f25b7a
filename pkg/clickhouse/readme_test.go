package clickhouse

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/event"
)

var indented = regexp.MustCompile(`(?m)(?:^    \S.*\n(?:^      .*\n|^    \S.*\n)*)`)

// The worked questions of the README find, over several sources, what they say.
func TestQuestionsOfTheReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	var questions []string
	for _, block := range indented.FindAllString(string(readme), -1) {
		if strings.HasPrefix(block, "    SELECT") {
			questions = append(questions, block)
		}
	}
	require.Len(t, questions, 2)

	cfg := testConfig(t)
	cfg.View = cfg.Table + "_events"
	table, conn := openTable(t, cfg)
	_, err = Apply(t.Context(), conn, cfg)
	require.NoError(t, err)
	now := uint32(time.Now().Unix()) //nolint:gosec // until 2106
	row := func(source, user, address, name string, code int64) event.Row {
		return event.Row{
			WorkspaceID: "w", SourceID: source, ReceivedAt: now, EventTime: now - 60, ID: source + user + address + name,
			EventName: name, Actor: event.Map{{Key: "username", Value: user}},
			Src: event.Endpoint{IP: address, ASOrganization: "Example"}, ResponseStatusCode: code,
		}
	}
	_, err = table.Insert(t.Context(), "token", rowsOf([]event.Row{
		row("a", "eve", "192.0.2.1", "create pods/exec", 101), row("b", "eve", "192.0.2.2", "get pods/exec", 101),
		row("a", "bob", "192.0.2.3", "create pods/exec", 101), row("b", "bob", "192.0.2.3", "list pods", 200),
		row("a", "system:anonymous", "192.0.2.9", "list secrets", 403), row("b", "system:anonymous", "192.0.2.9", "get /healthz", 200),
	}))
	require.NoError(t, err)
	for i, want := range []string{
		`["eve",["a","b"],2]`,
		`["192.0.2.9","Example",["a"],["b"]]`,
	} {
		question := strings.ReplaceAll(questions[i], "audit_events", Quote(cfg.View))
		var answers []string
		rows, err := conn.Query(t.Context(), "SELECT toJSONString(tuple(*)) FROM ("+strings.TrimSpace(question)+")")
		require.NoError(t, err, question)
		for rows.Next() {
			var answer string
			require.NoError(t, rows.Scan(&answer))
			answers = append(answers, answer)
		}
		require.NoError(t, rows.Err())
		require.Len(t, answers, 1, question)
		require.Equal(t, want, plain.Replace(answers[0]))
	}
}

// plain puts the sources of a group in order, which groupUniqArray does not, and
// a count without the quotes that some settings give it.
var plain = strings.NewReplacer(`["b","a"]`, `["a","b"]`, `"2"`, `2`)
