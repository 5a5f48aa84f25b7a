package generate

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/oschwald/geoip2-golang/v2"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/tests/golden"
)

// auditEvent is audit.k8s.io/v1's Event: decoding refuses any other field.
type auditEvent struct {
	Kind             string   `json:"kind"`
	APIVersion       string   `json:"apiVersion"`
	Level            string   `json:"level"`
	AuditID          string   `json:"auditID"`
	Stage            string   `json:"stage"`
	RequestURI       string   `json:"requestURI"`
	Verb             string   `json:"verb"`
	User             userInfo `json:"user"`
	ImpersonatedUser *userInfo
	SourceIPs        []string
	UserAgent        string
	ObjectRef        *struct {
		Resource, Namespace, Name, UID, APIGroup, APIVersion, ResourceVersion, Subresource string
	}
	ResponseStatus *struct {
		Metadata                struct{}
		Status, Message, Reason string
		Details                 *struct{ Name, Group, Kind string }
		Code                    int
	}
	RequestObject, ResponseObject            any
	RequestReceivedTimestamp, StageTimestamp time.Time
	Annotations                              map[string]string
}

type userInfo struct {
	Username, UID string
	Groups        []string
	Extra         map[string][]string
}

// shipped is what Fluent Bit adds.
type shipped struct {
	Date       float64
	Stream     string
	Time       time.Time
	Log        string
	Kubernetes map[string]any
}

func strictly(t *testing.T, line []byte, into any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(into), "%s", line)
	_, err := decoder.Token()
	require.ErrorIs(t, err, io.EOF, "%s", line)
}

func TestEventsDecodeStrictlyAndMakeSense(t *testing.T) {
	g, err := New(Options{Seed: 7})
	require.NoError(t, err)
	var (
		line              []byte
		size              int
		last              time.Time
		stages, verbs     = map[string]int{}, map[string]int{}
		codes, levels     = map[int]int{}, map[string]int{}
		seen              = map[string]bool{}
		documentation     = 0
		subresources      = map[string]int{}
		impersonated      int
		users, namespaces = map[string]bool{}, map[string]bool{}
	)
	const events = 30_000
	for range events {
		var kind Kind
		line, kind = g.AppendLine(line[:0])
		require.Equal(t, Event, kind)
		require.NotContains(t, string(line), "\n")
		size += len(line)
		var e auditEvent
		strictly(t, line, &e)
		require.Equal(t, "Event", e.Kind)
		require.Equal(t, "audit.k8s.io/v1", e.APIVersion)
		require.False(t, e.StageTimestamp.Before(last), "stageTimestamp goes back: %s", line)
		require.False(t, e.StageTimestamp.Before(e.RequestReceivedTimestamp), "%s", line)
		last = e.StageTimestamp
		require.False(t, seen[e.AuditID+e.Stage], "stage logged twice: %s", line)
		seen[e.AuditID+e.Stage] = true
		require.NotEmpty(t, e.RequestURI)
		require.NotEmpty(t, e.UserAgent)
		require.NotEmpty(t, e.SourceIPs)
		for _, address := range e.SourceIPs {
			parsed, err := netip.ParseAddr(address)
			require.NoError(t, err)
			if inDocumentation(parsed) {
				documentation++
			} else {
				require.True(t, parsed.IsPrivate() || parsed.IsLoopback(), "a public address that is someone's: %s", line)
			}
		}
		if e.Stage == stageRequestReceived {
			require.Nil(t, e.ResponseStatus, "%s", line)
		} else {
			require.NotZero(t, e.ResponseStatus.Code, "%s", line)
			codes[e.ResponseStatus.Code]++
			if e.ResponseStatus.Code != 401 {
				decision := e.Annotations["authorization.k8s.io/decision"]
				require.Contains(t, []string{"allow", "forbid"}, decision)
			}
		}
		if e.Level == levelMetadata {
			require.Nil(t, e.RequestObject)
		}
		if e.ObjectRef == nil {
			require.Equal(t, byte('/'), e.RequestURI[0])
		} else {
			require.Contains(t, e.RequestURI, e.ObjectRef.Resource)
			subresources[e.ObjectRef.Resource+"/"+e.ObjectRef.Subresource]++
			namespaces[e.ObjectRef.Namespace] = true
		}
		if e.ImpersonatedUser != nil {
			impersonated++
		}
		users[e.User.Username] = true
		stages[e.Stage]++
		verbs[e.Verb]++
		levels[e.Level]++
	}
	for _, stage := range []string{stageRequestReceived, stageResponseStarted, stageResponseComplete, stagePanic} {
		require.NotZero(t, stages[stage], stage)
	}
	for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"} {
		require.NotZero(t, verbs[verb], verb)
	}
	for _, code := range []int{101, 200, 201, 304, 401, 403, 404, 409, 429, 500} {
		require.NotZero(t, codes[code], code)
	}
	for _, level := range []string{levelMetadata, levelRequest, levelRequestResponse} {
		require.NotZero(t, levels[level], level)
	}
	for _, resource := range []string{"pods/exec", "pods/attach", "pods/portforward", "pods/log", "secrets/", "rolebindings/", "clusterrolebindings/", "leases/"} {
		require.NotZero(t, subresources[resource], resource)
	}
	require.NotZero(t, impersonated)
	require.NotZero(t, documentation)
	require.Greater(t, len(users), 100)
	require.Greater(t, len(namespaces), 15)
	average := size / events
	require.True(t, average > 1300 && average < 2100, "average event has %d bytes", average)
	t.Logf("average event: %d bytes; stages %v; codes %v; levels %v", average, stages, codes, levels)
}

func inDocumentation(address netip.Addr) bool {
	for _, network := range []string{"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"} {
		if netip.MustParsePrefix(network).Contains(address) {
			return true
		}
	}
	return false
}

// In every shape, the same seed gives the same events.
func TestShapesHoldTheSameEvents(t *testing.T) {
	lines := map[Shape][][]byte{}
	for _, shape := range []Shape{Bare, Merged, LogString} {
		g, err := New(Options{Seed: 3, Shape: shape})
		require.NoError(t, err)
		for range 2000 {
			line, _ := g.AppendLine(nil)
			lines[shape] = append(lines[shape], line)
		}
	}
	for i, bare := range lines[Bare] {
		var want, merged auditEvent
		strictly(t, bare, &want)
		var both struct {
			shipped
			auditEvent
		}
		strictly(t, lines[Merged][i], &both)
		merged = both.auditEvent
		require.Equal(t, want, merged)
		require.Equal(t, "stdout", both.Stream)
		require.NotEmpty(t, both.Kubernetes["pod_name"])

		var record shipped
		strictly(t, lines[LogString][i], &record)
		require.Equal(t, string(bare)+"\n", record.Log)
		require.WithinDuration(t, want.StageTimestamp, time.UnixMicro(int64(record.Date*1e6)), time.Second)
	}
}

func TestGolden(t *testing.T) {
	var got []byte
	for _, shape := range []Shape{Bare, Merged, LogString} {
		g, err := New(Options{Seed: 42, Shape: shape, BadShare: 0.1})
		require.NoError(t, err)
		for range 12 {
			got, _ = g.AppendLine(got)
			got = append(got, '\n')
		}
	}
	golden.Equal(t, "testdata/lines.ndjson", string(got))
}

func TestObjectsHoldWhatTheyTell(t *testing.T) {
	options := ObjectsOptions{Options: Options{Seed: 9, BadShare: 0.01}, Events: 20_000, Objects: 24, Corrupt: 2, Prefix: "audit/"}
	write := func() (Totals, map[string][]byte) {
		bodies := map[string][]byte{}
		var events, bad, blank int
		totals, err := WriteObjects(t.Context(), options, func(_ context.Context, object Object) error {
			require.NotContains(t, bodies, object.Key)
			require.True(t, strings.HasPrefix(object.Key, "audit/2026/01/05/"))
			bodies[object.Key] = bytes.Clone(object.Body)
			reader, err := gzip.NewReader(bytes.NewReader(object.Body))
			require.NoError(t, err)
			content, err := io.ReadAll(reader)
			if object.Corrupt {
				require.Error(t, err)
				require.Empty(t, content)
				return nil
			}
			require.NoError(t, err)
			lines := bytes.Split(bytes.TrimSuffix(content, []byte("\n")), []byte("\n"))
			require.Len(t, lines, len(object.Lines))
			for i, line := range lines {
				var e map[string]any
				isEvent := json.Unmarshal(line, &e) == nil && e["apiVersion"] != "v1"
				switch object.Lines[i] {
				case Event:
					require.True(t, isEvent, "%s", line)
					events++
				case Bad:
					require.False(t, isEvent, "%s", line)
					require.NotEmpty(t, line)
					bad++
				case Blank:
					require.Empty(t, line)
					blank++
				}
			}
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, options.Events, events)
		require.Equal(t, totals.Events, events)
		require.Equal(t, totals.Bad, bad)
		require.Equal(t, totals.Blank, blank)
		require.NotZero(t, bad)
		require.NotZero(t, blank)
		require.Equal(t, options.Objects, totals.Objects)
		require.Equal(t, options.Corrupt, totals.Corrupt)
		require.Len(t, bodies, options.Objects+options.Corrupt)
		return totals, bodies
	}
	totals, bodies := write()
	again, bodiesAgain := write()
	require.Equal(t, totals, again)
	require.Equal(t, bodies, bodiesAgain)
}

func TestBadOptionsAreRefused(t *testing.T) {
	for _, options := range []Options{{BadShare: -0.1}, {BadShare: 0.6}, {Every: -1}, {Every: 2 * time.Hour}, {Shape: 9}} {
		_, err := New(options)
		require.Error(t, err, "%+v", options)
	}
	_, err := WriteObjects(t.Context(), ObjectsOptions{Events: 1, Objects: 2}, nil)
	require.Error(t, err)
}

func TestGeoIPDatabases(t *testing.T) {
	paths, err := WriteGeoIP(t.TempDir())
	require.NoError(t, err)
	require.Len(t, paths, 3)
	again, err := WriteGeoIP(t.TempDir())
	require.NoError(t, err)
	for i := range paths {
		one, err := os.ReadFile(paths[i])
		require.NoError(t, err)
		two, err := os.ReadFile(again[i])
		require.NoError(t, err)
		require.Equal(t, one, two, "the same every time")
	}
	open := func(path string) *geoip2.Reader {
		reader, err := geoip2.Open(path)
		require.NoError(t, err)
		t.Cleanup(func() { _ = reader.Close() })
		return reader
	}
	city, err := open(paths[0]).City(netip.MustParseAddr("192.0.2.100"))
	require.NoError(t, err)
	require.Equal(t, "Linköping", city.City.Names.English)
	require.Equal(t, "SE", city.Country.ISOCode)
	require.InDelta(t, 58.41, *city.Location.Latitude, 0.01)
	asn, err := open(paths[1]).ASN(netip.MustParseAddr("2001:db8:2::99"))
	require.NoError(t, err)
	require.EqualValues(t, 64502, asn.AutonomousSystemNumber)
	require.Equal(t, "Example Carrier America", asn.AutonomousSystemOrganization)
	tor, err := open(paths[2]).AnonymousIP(netip.MustParseAddr("203.0.113.230"))
	require.NoError(t, err)
	require.True(t, tor.IsAnonymous && tor.IsTorExitNode)
	directory := filepath.Dir(paths[0])
	next, err := WriteNextGeoIP(directory)
	require.NoError(t, err)
	require.Equal(t, paths, next, "the files are replaced")
	moved, err := open(next[0]).City(netip.MustParseAddr("192.0.2.100"))
	require.NoError(t, err)
	require.Equal(t, "Lisbon", moved.City.Names.English)
	private, err := open(paths[0]).City(netip.MustParseAddr("10.0.0.4"))
	require.NoError(t, err)
	require.False(t, private.HasData())
}

func BenchmarkAppendLine(b *testing.B) {
	g, err := New(Options{Seed: 1})
	require.NoError(b, err)
	var line []byte
	for b.Loop() {
		line, _ = g.AppendLine(line[:0])
		b.SetBytes(int64(len(line)))
	}
}
