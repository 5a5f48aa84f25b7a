package audit

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/event"
)

// plainEvent is an audit event as encoding/json sees it.
type plainEvent struct {
	Kind, APIVersion, Level, AuditID, Stage, RequestURI, Verb, UserAgent string
	RequestReceivedTimestamp, StageTimestamp                             string
	User, ImpersonatedUser                                               struct {
		Username, UID string
		Groups        []string
		Extra         map[string][]string
	}
	SourceIPs []string
	ObjectRef struct{ Resource, Namespace, Name, APIVersion string }

	ResponseStatus struct {
		Code     int64
		Metadata json.RawMessage
	}
	Annotations map[string]string
}

// TestAgreesWithEncodingJSON reads every bare event of the samples and of the
// corpus in a second way.
func TestAgreesWithEncodingJSON(t *testing.T) {
	files, err := filepath.Glob("testdata/*.ndjson")
	require.NoError(t, err)
	t.Run("samples", func(t *testing.T) { agree(t, files, 20) })
	t.Run("corpus", func(t *testing.T) {
		found, err := filepath.Glob(filepath.Join(corpus(t), "audit_events*", "*.ndjson"))
		require.NoError(t, err)
		agree(t, found, 10_000)
	})
}

func agree(t *testing.T, files []string, atLeast int) {
	normalizer, compared := NewNormalizer(nil), 0
	for _, file := range files {
		for _, line := range corpusLines(t, file) {
			var want plainEvent
			if bytes.Contains(line, []byte("authorization_k8s_io")) {
				continue // an annotation that a shipper renamed
			}
			if json.Unmarshal(line, &want) != nil || want.AuditID == "" || want.Verb == "" || want.Level == "default" || bytes.Count(line, []byte(`"verb":`)) != 1 {
				continue
			}
			result := normalizer.Normalize(testSource, Line{Bytes: line, ObjectID: testObject, Number: 1}, func(row *event.Row) {
				compared++
				if diff := cmp.Diff(plainColumns(&want), rowColumns(row)); diff != "" {
					t.Fatalf("%s: %s\n%s", file, line, diff)
				}
			})
			require.Equal(t, 1, result.Rows, "%s: %s", file, line)
		}
	}
	require.GreaterOrEqual(t, compared, atLeast)
}

func plainColumns(e *plainEvent) map[string]any {
	var metadata bytes.Buffer
	if raw := e.ResponseStatus.Metadata; len(raw) > 0 && string(raw) != "null" {
		if err := json.Compact(&metadata, raw); err != nil {
			return nil
		}
	}
	return map[string]any{
		"kind": e.Kind, "apiVersion": e.APIVersion, "level": e.Level, "auditID": e.AuditID, "stage": e.Stage,
		"requestURI": e.RequestURI, "verb": e.Verb, "userAgent": e.UserAgent,
		"received": e.RequestReceivedTimestamp, "stageTime": e.StageTimestamp,
		"username": e.User.Username, "groups": append([]string{}, e.User.Groups...), "sourceIPs": append([]string{}, e.SourceIPs...),
		"resource": e.ObjectRef.Resource, "namespace": e.ObjectRef.Namespace, "name": e.ObjectRef.Name, "objectVersion": e.ObjectRef.APIVersion,
		"code": e.ResponseStatus.Code, "metadata": metadata.String(),
		"decision": e.Annotations[decisionKey], "reason": e.Annotations[reasonKey],
		"impersonated": e.ImpersonatedUser.Username, "extras": len(e.User.Extra),
	}
}

func rowColumns(row *event.Row) map[string]any {
	extras := 0
	for _, pair := range row.Actor {
		if hasPrefix(pair.Key, "extra.") {
			extras++
		}
	}
	return map[string]any{
		"kind": row.Kind, "apiVersion": row.APIVersion, "level": row.Level, "auditID": row.AuditID, "stage": row.Stage,
		"requestURI": row.RequestURI, "verb": row.Verb, "userAgent": row.UserAgent,
		"received": row.RequestReceivedTimestamp, "stageTime": row.StageTimestamp,
		"username": row.UserUsername, "groups": append([]string{}, slices.Clone(row.UserGroups)...), "sourceIPs": append([]string{}, row.SourceIPs...),
		"resource": row.ObjectRefResource, "namespace": row.ObjectRefNamespace, "name": row.ObjectRefName, "objectVersion": row.ObjectRefAPIVersion,
		"code": row.ResponseStatusCode, "metadata": row.ResponseStatusMetadata,
		"decision": row.AuthorizationDecision, "reason": row.AuthorizationReason,
		"impersonated": row.Actor.Get("impersonatedUsername"), "extras": extras,
	}
}
