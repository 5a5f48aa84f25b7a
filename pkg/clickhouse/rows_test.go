package clickhouse

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/auditstream/auditstream/pkg/event"
)

// sliceRows is a batch from rows in memory.
type sliceRows struct {
	rows []event.Row
	next int
}

func (s *sliceRows) Next(row *event.Row) (bool, error) {
	if s.next == len(s.rows) {
		return false, nil
	}
	*row = s.rows[s.next]
	s.next++
	return true, nil
}

func rowsOf(rows []event.Row) *sliceRows { return &sliceRows{rows: rows} }

// makeRows gives events that look like those of an API server, about 2 KB each.
func makeRows(count int) []event.Row {
	random := rand.New(rand.NewPCG(1, 2))
	start := uint32(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Unix())
	verbs := []string{"get", "list", "watch", "create", "update", "delete"}
	kinds := []string{"pods", "secrets", "configmaps", "leases", "deployments", "nodes"}
	body := strings.Repeat(`{"name":"container","image":"registry.example/app:1.2.3","env":[{"name":"A","value":"b"}]},`, 14)
	rows := make([]event.Row, count)
	for i := range rows {
		verb, kind := verbs[random.IntN(len(verbs))], kinds[random.IntN(len(kinds))]
		user := fmt.Sprintf("system:serviceaccount:team-%d:worker-%d", random.IntN(20), random.IntN(50))
		audit := fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", random.Uint32(), random.IntN(65536), random.IntN(4096), random.IntN(4096), random.Uint64()&0xffffffffffff)
		ip := fmt.Sprintf("10.%d.%d.%d", random.IntN(4), random.IntN(256), random.IntN(256))
		rows[i] = event.Row{
			WorkspaceID: "workspace", SourceID: "cluster-1", SourceType: "kubernetes-audit", SourceTTL: 365,
			ReceivedAt: start + uint32(i/1000), ID: fmt.Sprintf("%032x-%012d", 7, i+1), EventTime: start + uint32(i/1000) - 30,
			EventName: verb + " " + kind, EventID: audit,
			Src:       event.Endpoint{IP: ip, ASCountryCode: "DE", ASNumber: 64500, ASOrganization: "Example Networks", City: "Berlin", Latitude: 52.5, Longitude: 13.4},
			Actor:     event.Map{{Key: "username", Value: user}, {Key: "groups", Value: "system:serviceaccounts,system:authenticated"}, {Key: "type", Value: "serviceaccount"}, {Key: "namespace", Value: "team"}},
			Tags:      event.Map{{Key: "cluster", Value: "production"}, {Key: "env", Value: "prod"}},
			Resources: []string{"api/v1/namespaces/web/" + kind + "/x"}, ServiceName: "kubernetes", ReadOnly: verb == "get",
			RawLog: []byte(fmt.Sprintf(`{"kind":"Event","auditID":"%s","verb":"%s","user":{"username":"%s"},"requestObject":{"spec":[%s`, audit, verb, user, body)),
			Kind:   "Event", APIVersion: "audit.k8s.io/v1", Level: "RequestResponse", AuditID: audit, Stage: "ResponseComplete",
			RequestURI: "/api/v1/namespaces/web/" + kind + "/x?timeout=10s", Verb: verb, UserUsername: user,
			UserGroups: []string{"system:serviceaccounts", "system:authenticated"}, SourceIPs: []string{ip},
			UserAgent: "kubectl/v1.31.0 (linux/amd64) kubernetes/abcdef", ObjectRefResource: kind, ObjectRefNamespace: "web", ObjectRefName: "x", ObjectRefAPIVersion: "v1",
			ResponseStatusMetadata: "{}", ResponseStatusCode: 200, RequestReceivedTimestamp: "2026-03-01T00:00:00.123456Z", StageTimestamp: "2026-03-01T00:00:00.223456Z",
			AuthorizationDecision: "allow", AuthorizationReason: "RBAC: allowed by ClusterRoleBinding",
		}
	}
	return rows
}

func keysOf(rows []event.Row) []RowKey {
	keys := make([]RowKey, len(rows))
	for i := range rows {
		keys[i] = RowKey{rows[i].WorkspaceID, rows[i].SourceID, rows[i].ReceivedAt, rows[i].ID}
	}
	return keys
}
