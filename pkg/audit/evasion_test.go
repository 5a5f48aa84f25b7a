package audit

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/event"
)

// TestChangesAreNotHidden holds readOnly against clients: everything of a
// request is theirs to choose, the server's reading of it is not.
func TestChangesAreNotHidden(t *testing.T) {
	const pod = `"objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1"}`
	for _, c := range []struct {
		why, members string
		readOnly     bool
	}{
		{"a patch is logged as it was sent", `"verb":"patch","requestObject":{"deleteOptions":{"dryRun":["All"]},"spec":{}},` + pod, false},
		{"a patch is no DeleteOptions", `"verb":"patch","requestObject":{"kind":"DeleteOptions","dryRun":["All"]},` + pod, false},
		{"a custom object may have any member", `"verb":"create","requestObject":{"kind":"DeleteOptions","dryRun":["All"],"deleteOptions":{"dryRun":["All"]}},"objectRef":{"resource":"foos","apiGroup":"x.y","apiVersion":"v1"}`, false},
		{"of a deletion the body counts, not the parameters", `"verb":"delete","requestURI":"/api/v1/namespaces/a/pods/p?dryRun=All","requestObject":{"kind":"DeleteOptions"},` + pod, false},
		{"and of deletions", `"verb":"deletecollection","requestURI":"/api/v1/namespaces/a/pods?dryRun=All","requestObject":{"kind":"DeleteOptions","dryRun":[]},` + pod, false},
		{"a deletion without body", `"verb":"delete","requestURI":"/api/v1/namespaces/a/pods/p?dryRun=All",` + pod, true},
		{"a deletion with null for a body", `"verb":"delete","requestURI":"/api/v1/namespaces/a/pods/p?dryRun=All","requestObject":null,` + pod, true},
		{"a deletion's options", `"verb":"deletecollection","requestObject":{"kind":"DeleteOptions","dryRun":["All"]},` + pod, true},
		{"a token is handed out all the same", `"verb":"create","requestURI":"/api/v1/namespaces/a/serviceaccounts/s/token?dryRun=All","objectRef":{"resource":"serviceaccounts","subresource":"token","namespace":"a","name":"s","apiVersion":"v1"}`, false},
		{"not a resource", `"verb":"post","requestURI":"/debug/reset?dryRun=All"`, false},
		{"exec is no dry run", `"verb":"create","requestURI":"/api/v1/namespaces/a/pods/p/exec?dryRun=All","objectRef":{"resource":"pods","subresource":"exec","namespace":"a","name":"p","apiVersion":"v1"}`, false},
		{"a parameter that ends in dryRun", `"verb":"update","requestURI":"/api/v1/namespaces/a/pods/p?notDryRun=All&xdryRun=All",` + pod, false},
		{"in the path", `"verb":"update","requestURI":"/api/v1/namespaces/a/pods/dryRun=All",` + pod, false},
		{"behind a semicolon", `"verb":"update","requestURI":"/api/v1/namespaces/a/pods/p?x;dryRun=All",` + pod, false},
		{"escaped as Go escapes", `"verb":"update","requestURI":"/api/v1/namespaces/a/pods/p?x=1\u0026dryRun=All",` + pod, true},
		{"a review's kin in another group", `"verb":"create","objectRef":{"resource":"subjectaccessreviews","apiGroup":"evil.example","apiVersion":"v1"}`, false},
		{"a review deleted", `"verb":"delete","objectRef":{"resource":"subjectaccessreviews","apiGroup":"authorization.k8s.io","apiVersion":"v1"}`, false},
		{"the proxy of old", `"verb":"get","requestURI":"/api/v1/proxy/namespaces/a/pods/p/run"`, false},
		{"the proxy of old to a node", `"verb":"get","requestURI":"/api/v1/proxy/nodes/n/exec"`, false},
		{"the proxy of old as it is logged", `"verb":"proxy","requestURI":"/api/v1/proxy/namespaces/a/pods/p/run?dryRun=All",` + pod, false},
		{"keys are told apart by their case", `"verb":"delete","Verb":"get","VERB":"list",` + pod, false},
		{"the last of two", `"verb":"get","verb":"delete",` + pod, false},
		{"ephemeral containers", `"verb":"patch","objectRef":{"resource":"pods","subresource":"ephemeralcontainers","namespace":"a","name":"p","apiVersion":"v1"}`, false},
	} {
		readOnly := oneRow(t, testSource, eventWith(c.members), func(row *event.Row) bool { return row.ReadOnly })
		require.Equal(t, c.readOnly, readOnly, "%s: %s", c.why, c.members)
	}
}

// TestPartsOfRejectedItems makes sure that a dead letter of one message is not
// overwritten by the messages after it.
func TestPartsOfRejectedItems(t *testing.T) {
	const count = 50
	var messages []string
	for i := range count {
		messages = append(messages, fmt.Sprintf(`{"message":"{\"kind\":\"EventList\",\"items\":[\"part %d %s\",{\"auditID\":\"%d\",\"verb\":\"get\"}]}"}`, i, strings.Repeat("x", i), i))
	}
	line := `{"logGroup":"g","logEvents":[` + strings.Join(messages, ",") + `]}`
	var ids []string
	result := NewNormalizer(nil).Normalize(testSource, Line{Bytes: []byte(line), ObjectID: testObject, Number: 1}, func(row *event.Row) {
		ids = append(ids, strings.Clone(row.AuditID))
	})
	require.Len(t, ids, count)
	require.Len(t, result.Rejections, count)
	for i := range count {
		require.Equal(t, fmt.Sprint(i), ids[i])
		require.Equal(t, fmt.Sprintf(`"part %d %s"`, i, strings.Repeat("x", i)), string(result.Rejections[i].Part))
	}
}

func TestListThatBeginsWithANumber(t *testing.T) {
	line := Line{Bytes: []byte(`[1700000000,` + eventWith(`"verb":"get"`) + `,` + eventWith(`"verb":"list"`) + `]`), ObjectID: testObject, Number: 1}
	var names []string
	result := NewNormalizer(nil).Normalize(testSource, line, func(row *event.Row) { names = append(names, strings.Clone(row.Verb)) })
	require.Equal(t, []string{"get", "list"}, names)
	require.Len(t, result.Rejections, 1)

	date := oneRow(t, testSource, `[1700000000.5, `+eventWith(`"verb":"get"`)+` ] `, func(row *event.Row) uint32 { return row.Date })
	require.EqualValues(t, 1_700_000_000, date)
}

func TestByteOrderMarkInAString(t *testing.T) {
	verb := oneRow(t, testSource, "{\"log\":\"\ufeff"+inString(eventWith(`"verb":"get"`))+`\n"}`, func(row *event.Row) string { return strings.Clone(row.Verb) })
	require.Equal(t, "get", verb)
}

// TestManyRejections: what has no dead letter of its own is in the line's.
func TestManyRejections(t *testing.T) {
	line := Line{Bytes: []byte(`[` + strings.Repeat("0,", maxRejections+5) + eventWith(`"verb":"get"`) + `]`), ObjectID: testObject, Number: 1}
	normalizer := NewNormalizer(nil)
	var id string
	result := normalizer.Normalize(testSource, line, func(row *event.Row) { id = strings.Clone(row.ID) })
	require.Equal(t, 1, result.Rows)
	require.True(t, strings.HasSuffix(id, fmt.Sprintf(".%06d", maxRejections+5)), id)
	require.Len(t, result.Rejections, maxRejections+1)
	require.Equal(t, "0", string(result.Rejections[maxRejections-1].Part))
	last := result.Rejections[maxRejections]
	require.Equal(t, string(line.Bytes), string(last.Part))
	require.Equal(t, maxRejections, last.Event)
}

// TestPairsAgreeWithAMap compares the order and the last value of each key.
func TestPairsAgreeWithAMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var p pairs
	for range 2000 {
		p.reset()
		var keys []string
		values := map[string]string{}
		for range random.IntN(200) {
			key, value := fmt.Sprint("k", random.IntN(1+random.IntN(150))), fmt.Sprint(random.Int())
			if _, known := values[key]; !known {
				keys = append(keys, key)
			}
			values[key] = value
			p.set(key, value)
		}
		require.Len(t, p.list, len(keys))
		for i, key := range keys {
			require.Equal(t, event.Pair{Key: key, Value: values[key]}, p.list[i])
		}
	}
}

// TestTagsOfTheSourceStay: nothing that an event says takes the place of a tag
// that the configuration gives.
func TestTagsOfTheSourceStay(t *testing.T) {
	source := &Source{Tags: event.Map{{Key: "annotations.a", Value: "ours"}, {Key: "team", Value: "red"}}}
	tags := oneRow(t, source, eventWith(`"verb":"get","annotations":{"a":"theirs","team":"blue"}`), func(row *event.Row) string { return fmt.Sprint(row.Tags) })
	require.Equal(t, "[{annotations.a ours} {team red} {annotations.team blue}]", tags)
}
