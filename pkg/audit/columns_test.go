package audit

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/event"
)

// oneRow normalizes a line that must give one row and nothing else, and returns
// what look takes from the row.
func oneRow[T any](t *testing.T, source *Source, text string, look func(*event.Row) T) T {
	t.Helper()
	var seen T
	result := NewNormalizer(nil).Normalize(source, Line{Bytes: []byte(text), ObjectID: testObject, Number: 1, ReceivedAt: 1_700_000_000_000}, func(row *event.Row) {
		seen = look(row)
	})
	require.Equal(t, 1, result.Rows, "rejections: %v, skips: %v", result.Rejections, result.Skips)
	require.Empty(t, result.Rejections)
	require.Empty(t, result.Skips)
	return seen
}

// eventWith is an audit event with the given members beside its ids.
func eventWith(members string) string {
	return `{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"1","stage":"ResponseComplete",` + members + `}`
}

func TestParseTime(t *testing.T) {
	at := func(year int, month time.Month, day, hour, minute, second int) int64 {
		return time.Date(year, month, day, hour, minute, second, 0, time.UTC).Unix()
	}
	for text, want := range map[string]int64{
		"2026-02-03T10:11:12Z":                at(2026, 2, 3, 10, 11, 12),
		"2026-02-03T10:11:12.131415Z":         at(2026, 2, 3, 10, 11, 12),
		"2026-02-03t10:11:12.1234567z":        at(2026, 2, 3, 10, 11, 12),
		"2026-02-03T10:11:12.123456789+02:00": at(2026, 2, 3, 8, 11, 12),
		"2026-02-03T10:11:12-0530":            at(2026, 2, 3, 15, 41, 12),
		"2026-02-03T10:11:12+02":              at(2026, 2, 3, 8, 11, 12),
		"2026-02-03 10:11:12 +0200":           at(2026, 2, 3, 8, 11, 12),
		"2026-02-03 10:11:12.38":              at(2026, 2, 3, 10, 11, 12),
		"2026-02-03":                          at(2026, 2, 3, 0, 0, 0),
		"2024-02-29T00:00:00Z":                at(2024, 2, 29, 0, 0, 0),
		"2000-02-29T23:59:60Z":                at(2000, 3, 1, 0, 0, 0),
		"1969-12-31T23:59:59Z":                -1,
		"0001-01-01T00:00:00Z":                at(1, 1, 1, 0, 0, 0),
		"9999-12-31T23:59:59Z":                at(9999, 12, 31, 23, 59, 59),
		"1586363556":                          1586363556,
		"1586363556.136498":                   1586363556,
		"1586363556.9999999999":               1586363556,
		"1.639425394678687E9":                 1639425394,
		"1.6E9":                               1600000000,
		"1586363556136":                       1586363556,
		"1586363556136498":                    1586363556,
		"1586363556136498000":                 1586363556,
		"1586363556999999999":                 1586363556,
		"1586363556999999":                    1586363556,
		"0":                                   0,
		"1e300":                               maxDateTime + 1,
		"1e999":                               maxDateTime + 1,
		"-5":                                  -1,
	} {
		got, ok := parseTime(text)
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{
		"", "<ts>", "-", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2100-02-29T00:00:00Z", "2026-02-03T24:00:00Z", "2026-02-03T10:60:00Z",
		"2026-02-03T10:11:12.Z", "2026-02-03T10:11", "2026-02-03T10:11:12X", "2026-02-03T10:11:12+25:00", "2026-02-03T10:11:12+0",
		"02/Aug/2022:07:41:34 +0000", "nan", "1.2.3", "12 ", "2O26-02-03",
		strings.Repeat("1", 65), "2026-02-03T10:11:12." + strings.Repeat("1", 65) + "Z",
	} {
		_, ok := parseTime(text)
		require.False(t, ok, text)
	}
}

func TestEveryDayAgreesWithTheCalendar(t *testing.T) {
	for day := time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC); day.Year() < 2450; day = day.AddDate(0, 0, 1) {
		if got := daysSinceEpoch(day.Year(), int(day.Month()), day.Day()); got != day.Unix()/86_400 {
			t.Fatalf("%s is day %d", day, got)
		}
	}
}

func TestClientAddress(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for _, c := range []struct {
		sourceIPs string
		trusted   []netip.Prefix
		want      string
	}{
		{`["203.0.113.9"]`, nil, "203.0.113.9"},
		{`["203.0.113.9","198.51.100.1"]`, nil, "198.51.100.1"},
		{`["203.0.113.9","10.1.1.1"]`, proxies, "203.0.113.9"},
		{`["1.1.1.1","203.0.113.9","10.1.1.1","2001:db8::5"]`, proxies, "203.0.113.9"},
		{`["10.2.2.2","10.1.1.1"]`, proxies, "10.2.2.2"},
		{`["web","10.2.2.2","10.1.1.1",""]`, proxies, "10.2.2.2"},
		{`["203.0.113.9:443"]`, nil, "203.0.113.9"},
		{`["[2001:DB8::1]:443"]`, nil, "2001:db8::1"},
		{`["[2001:db8::1]"]`, nil, "2001:db8::1"},
		{`["fe80::1%eth0"]`, nil, "fe80::1"},
		{`["::ffff:203.0.113.9"]`, nil, "203.0.113.9"},
		{`["::ffff:10.1.1.1","::1"]`, proxies, "::1"},
		{`[" 203.0.113.9 "]`, nil, "203.0.113.9"},
		{`["99.999.999.999"]`, nil, ""},
		{`["012.0.22.33"]`, nil, ""},
		{`["203.0.113.9:99999999"]`, nil, ""},
		{`["[203.0.113.9"]`, nil, ""},
		{`["face"]`, nil, ""},
		{`[]`, nil, ""}, {`null`, nil, ""}, {`{}`, nil, ""}, {`[null,[],{}]`, nil, ""}, {`7`, nil, ""},
		{`"203.0.113.9"`, nil, "203.0.113.9"},
	} {
		source := &Source{TrustedProxies: c.trusted}
		got := oneRow(t, source, eventWith(`"verb":"get","sourceIPs":`+c.sourceIPs), func(row *event.Row) string { return strings.Clone(row.Src.IP) })
		require.Equal(t, c.want, got, c.sourceIPs)
	}
}

func TestActorType(t *testing.T) {
	for _, c := range []struct{ user, kind, email string }{
		{`{"username":"jane"}`, "user", ""},
		{`{"username":"jane@example.com"}`, "user", "jane@example.com"},
		{`{"username":"oidc:jane@example.com"}`, "user", ""},
		{`{"username":"deployer@project.iam.gserviceaccount.com"}`, "user", "deployer@project.iam.gserviceaccount.com"},
		{`{"username":"jane@"}`, "user", ""}, {`{"username":"a@b"}`, "user", ""}, {`{"username":"a@b.c@d.e"}`, "user", ""},
		{`{"username":"kubernetes-admin"}`, "user", ""},
		{`{"username":"kube:admin"}`, "user", ""},
		{`{"username":"arn:aws:sts::1:assumed-role/a/jane@example.com"}`, "user", ""},
		{`{"username":"system:serviceaccount:ci:deployer"}`, "serviceaccount", ""},
		{`{"username":"system:serviceaccount:ci"}`, "system", ""},
		{`{"username":"system:node:node-1"}`, "node", ""},
		{`{"username":"kubelet","groups":["system:nodes"]}`, "node", ""},
		{`{"username":"system:anonymous"}`, "anonymous", ""},
		{`{"username":"","groups":["system:unauthenticated"]}`, "anonymous", ""},
		{`{"username":"system:kube-controller-manager"}`, "system", ""},
		{`{"username":"system:apiserver"}`, "system", ""},
		{`{"username":"eks:certificate-controller"}`, "system", ""},
		{`{"username":"aksService"}`, "system", ""},
		{`{}`, "", ""}, {`null`, "", ""}, {`"jane"`, "user", ""},
	} {
		actor := oneRow(t, testSource, eventWith(`"verb":"get","user":`+c.user), func(row *event.Row) [2]string {
			return [2]string{row.Actor.Get("type"), strings.Clone(row.Actor.Get("email"))}
		})
		require.Equal(t, [2]string{c.kind, c.email}, actor, c.user)
	}
}

func TestTarget(t *testing.T) {
	for _, c := range []struct {
		members, name, resource string
		readOnly                bool
	}{
		{`"verb":"create","objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1","subresource":"exec"}`, "create pods/exec", "api/v1/namespaces/a/pods/p/exec", false},
		{`"verb":"get","objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1","subresource":"attach"}`, "get pods/attach", "api/v1/namespaces/a/pods/p/attach", false},
		{`"verb":"get","objectRef":{"resource":"services","namespace":"a","name":"s:80","apiVersion":"v1","subresource":"proxy"},"requestURI":"/api/v1/namespaces/a/services/s:80/proxy/x"`, "get services/proxy", "api/v1/namespaces/a/services/s:80/proxy", false},
		{`"verb":"get","objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1","subresource":"log"}`, "get pods/log", "api/v1/namespaces/a/pods/p/log", true},
		{`"verb":"list","objectRef":{"resource":"secrets","apiVersion":"v1"}`, "list secrets", "api/v1/secrets", true},
		{`"verb":"watch","objectRef":{"resource":"ingresses","apiGroup":"networking.k8s.io","apiVersion":"v1","namespace":"a"}`, "watch ingresses", "apis/networking.k8s.io/v1/namespaces/a/ingresses", true},
		{`"verb":"get","objectRef":{"resource":"clusterroles","apiGroup":"rbac.authorization.k8s.io","apiVersion":"v1","name":"system:admin"}`, "get clusterroles", "apis/rbac.authorization.k8s.io/v1/clusterroles/system:admin", true},
		{`"verb":"delete","objectRef":{"resource":"namespaces","namespace":"a","name":"a","apiVersion":"v1"}`, "delete namespaces", "api/v1/namespaces/a", false},
		{`"verb":"update","objectRef":{"resource":"namespaces","namespace":"a","name":"a","apiVersion":"v1","subresource":"finalize"}`, "update namespaces/finalize", "api/v1/namespaces/a/finalize", false},
		{`"verb":"get","requestURI":"/healthz?verbose"`, "get /healthz", "healthz", true},
		{`"verb":"get","requestURI":"/"`, "get /", "", true},
		{`"verb":"get","requestURI":"/apis/apps/v1?timeout=32s"`, "get /apis/apps/v1", "apis/apps/v1", true},
		{`"verb":"get","requestURI":"/openapi/v3/apis/apps/v1"`, "get /openapi/v3/apis/apps/v1", "openapi/v3/apis/apps/v1", true},
		{`"verb":"post","requestURI":"/metrics"`, "post /metrics", "metrics", false},
		{`"verb":"list","requestURI":"/api/v1/namespaces/a/pods?limit=500"`, "list pods", "api/v1/namespaces/a/pods", true},
		{`"verb":"watch","requestURI":"/api/v1/watch/namespaces/a/pods/p"`, "watch pods", "api/v1/namespaces/a/pods/p", true},
		{`"verb":"get","requestURI":"/api/v1/namespaces/a"`, "get namespaces", "api/v1/namespaces/a", true},
		{`"verb":"update","requestURI":"/api/v1/namespaces/a/status"`, "update namespaces/status", "api/v1/namespaces/a/status", false},
		{`"verb":"create","requestURI":"/api/v1/namespaces/a/pods?dryRun=All","objectRef":{"resource":"pods","namespace":"a","apiVersion":"v1"}`, "create pods", "api/v1/namespaces/a/pods", true},
		{`"verb":"create","requestURI":"/api/v1/namespaces/a/pods?a=1&dryRun=All&b","objectRef":{"resource":"pods","namespace":"a","apiVersion":"v1"}`, "create pods", "api/v1/namespaces/a/pods", true},
		{`"verb":"create","requestURI":"/api/v1/namespaces/a/pods?xdryRun=All&dryRun=","objectRef":{"resource":"pods","namespace":"a","apiVersion":"v1"}`, "create pods", "api/v1/namespaces/a/pods", false},
		{`"verb":"delete","requestObject":{"kind":"DeleteOptions","dryRun":["All"]},"objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1"}`, "delete pods", "api/v1/namespaces/a/pods/p", true},
		{`"verb":"delete","requestObject":{"kind":"DeleteOptions","dryRun":[]},"objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1"}`, "delete pods", "api/v1/namespaces/a/pods/p", false},
		{`"verb":"create","requestObject":{"kind":"Foo","dryRun":["All"]},"objectRef":{"resource":"foos","apiGroup":"x.y","apiVersion":"v1"}`, "create foos", "apis/x.y/v1/foos", false},
		{`"verb":"create","requestObject":{"kind":"Eviction","deleteOptions":{"dryRun":["All"]}},"objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1","subresource":"eviction"}`, "create pods/eviction", "api/v1/namespaces/a/pods/p/eviction", true},
		{`"verb":"create","objectRef":{"resource":"tokenreviews","apiGroup":"authentication.k8s.io","apiVersion":"v1"}`, "create tokenreviews", "apis/authentication.k8s.io/v1/tokenreviews", true},
		{`"verb":"create","objectRef":{"resource":"selfsubjectaccessreviews","apiGroup":"authorization.k8s.io","apiVersion":"v1"}`, "create selfsubjectaccessreviews", "apis/authorization.k8s.io/v1/selfsubjectaccessreviews", true},
		{`"verb":"create","objectRef":{"resource":"tokenreviews","apiGroup":"example.com","apiVersion":"v1"}`, "create tokenreviews", "apis/example.com/v1/tokenreviews", false},
		{`"verb":"create","objectRef":{"resource":"serviceaccounts","namespace":"a","name":"s","apiVersion":"v1","subresource":"token"}`, "create serviceaccounts/token", "api/v1/namespaces/a/serviceaccounts/s/token", false},
		{`"verb":"head","requestURI":"/"`, "head /", "", true},
		{`"verb":"propfind","requestURI":"/x"`, "propfind /x", "x", false},
		{`"verb":"get","objectRef":{"resource":"deployments","namespace":"a","name":"d","apiVersion":"apps/v1beta1"}`, "get deployments", "apis/apps/v1beta1/namespaces/a/deployments/d", true},
		{`"verb":"get","objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"/v1"}`, "get pods", "api/v1/namespaces/a/pods/p", true},
		{`"verb":"get","objectRef":{"resource":"cronjobs","namespace":"a"},"requestURI":"/apis/batch/v1/namespaces/a/cronjobs"`, "get cronjobs", "apis/batch/v1/namespaces/a/cronjobs", true},
	} {
		got := oneRow(t, testSource, eventWith(c.members), func(row *event.Row) [3]any {
			resource := ""
			if len(row.Resources) > 0 {
				resource = strings.Clone(row.Resources[0])
			}
			return [3]any{strings.Clone(row.EventName), resource, row.ReadOnly}
		})
		require.Equal(t, [3]any{c.name, c.resource, c.readOnly}, got, c.members)
	}
}

func TestEventTimePrecedence(t *testing.T) {
	const (
		received = `"requestReceivedTimestamp":"2020-01-01T00:00:01Z"`
		stage    = `"stageTimestamp":"2020-01-01T00:00:02Z"`
		older    = `"timestamp":"2020-01-01T00:00:03Z"`
		wrapped  = `"time":"2020-01-01T00:00:04Z"`
		date     = `"date":1577836805.5`
	)
	start := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	for i, members := range [][]string{{date, wrapped, older, stage, received}, {date, wrapped, older, stage}, {date, wrapped, older}, {date, wrapped}, {date}} {
		got := oneRow(t, testSource, eventWith(`"verb":"get",`+strings.Join(members, ",")), func(row *event.Row) uint32 { return row.EventTime })
		require.Equal(t, start+int64(i)+1, int64(got))
	}
	got := oneRow(t, testSource, eventWith(`"verb":"get","time":"02/Aug/2022:07:41:34 +0000","date":null`), func(row *event.Row) uint32 { return row.EventTime })
	require.EqualValues(t, 1_700_000_000, got)
}

func TestDeepNesting(t *testing.T) {
	nested := func(depth int) string {
		return eventWith(`"verb":"get","requestObject":` + strings.Repeat("[", depth) + strings.Repeat("]", depth))
	}
	oneRow(t, testSource, nested(3000), func(*event.Row) bool { return true })
	oneRow(t, testSource, nested(maxDepth-1), func(*event.Row) bool { return true })
	result := NewNormalizer(nil).Normalize(testSource, Line{Bytes: []byte(nested(maxDepth))}, func(*event.Row) {})
	require.Len(t, result.Rejections, 1)
	require.Equal(t, NotJSON, result.Rejections[0].Reason)
}

// TestManyMembers makes sure that looking for repeated keys does not take time
// by the square of their number.
func TestManyMembers(t *testing.T) {
	var labels strings.Builder
	for i := range 200_000 {
		if i > 0 {
			labels.WriteByte(',')
		}
		labels.WriteString(`"` + strings.Repeat("k", i%7+1) + time.Duration(i).String() + `":"v"`)
	}
	line := eventWith(`"verb":"get","annotations":{` + labels.String() + `,"k0s":"last"},"kubernetes":{"labels":{` + labels.String() + `}}`)
	tags := oneRow(t, testSource, line, func(row *event.Row) int { return len(row.Tags) })
	require.Equal(t, 400_000, tags)
}

func TestLongLine(t *testing.T) {
	body := strings.Repeat("x\\n", 4<<20)
	line := eventWith(`"verb":"create","requestObject":{"data":"` + body + `"},"userAgent":"a\u0041"`)
	got := oneRow(t, testSource, line, func(row *event.Row) string { return strings.Clone(row.UserAgent) + row.Verb })
	require.Equal(t, "aAcreate", got)
}
