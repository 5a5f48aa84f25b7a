package officialtypes

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/audit/install"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/event"
)

var (
	seed   = flag.Uint64("seed", rand.Uint64(), "of the events")
	events = flag.Int("events", 30_000, "how many are compared")
)

// newCodec writes events as the API server's log and webhook do.
func newCodec() runtime.Codec {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	return serializer.NewCodecFactory(scheme).LegacyCodec(auditv1.SchemeGroupVersion)
}

var source = &audit.Source{
	WorkspaceID: "w", ID: "s", Type: "kubernetes-audit", TTLDays: 90, Tags: event.Map{{Key: "team", Value: "red"}},
	APIServerIP: netip.MustParseAddr("192.0.2.1"), TrustedProxies: prefixes(trusted),
}

func prefixes(texts []string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// others are the columns that no event decides.
var others = event.Row{
	WorkspaceID: "w", SourceID: "s", SourceType: "kubernetes-audit", SourceTTL: 90, ReceivedAt: receivedAt, Dst: event.Endpoint{IP: "192.0.2.1"},
}

// compare normalizes a line and holds its rows against the samples, in order.
// raws are what rawLog must hold.
func compare(t *testing.T, normalizer *audit.Normalizer, line []byte, samples []sample, raws [][]byte, others event.Row, bare bool) {
	t.Helper()
	i := 0
	failed := func(what string) { t.Fatalf("seed %d: %s\nevent: %s", *seed, what, line) }
	result := normalizer.Normalize(source, audit.Line{Bytes: line, ObjectID: "0123456789abcdef0123456789abcdef", Number: 1, ReceivedAt: receivedAt * 1000}, func(row *event.Row) {
		if i >= len(samples) {
			failed("too many rows")
		}
		want := samples[i].expected()
		want.Others = others
		if !bare {
			want.Kind, want.APIVersion = "", "" // of the list, not of its items
		}
		if got := columnsOf(row, failed); !reflect.DeepEqual(want, got) {
			failed("want -, got +\n" + cmp.Diff(want, got))
		}
		if !bytes.Equal(raws[i], row.RawLog) {
			failed("rawLog is " + string(row.RawLog))
		}
		i++
	})
	if result.Rows != len(samples) || len(result.Rejections) > 0 || len(result.Skips) > 0 {
		t.Fatalf("seed %d: %d rows of %d, rejections %v, skips %v\nevent: %s", *seed, result.Rows, len(samples), result.Rejections, result.Skips, line)
	}
}

// TestEvents compares single events, as the API server writes them to its log.
func TestEvents(t *testing.T) {
	t.Logf("seed %d, %d events", *seed, *events)
	g, codec, normalizer := newGenerator(*seed), newCodec(), audit.NewNormalizer(nil)
	kinds := map[string]int{}
	for range *events {
		s := g.newSample(t)
		encoded, err := runtime.Encode(codec, s.event)
		require.NoError(t, err)
		line := bytes.TrimSuffix(encoded, []byte("\n"))
		compare(t, normalizer, line, []sample{s}, [][]byte{line}, others, true)
		kinds[s.request.name]++
		if s.request.readOnly {
			kinds["read only"]++
		}
	}
	t.Logf("%d different requests, %d read only", len(kinds)-1, kinds["read only"])
	require.Greater(t, len(kinds), 100)
}

// TestShipped compares events inside of what shippers put around them.
func TestShipped(t *testing.T) {
	g, codec, normalizer := newGenerator(*seed+1), newCodec(), audit.NewNormalizer(nil)
	marshal := func(value any) []byte {
		data, err := json.Marshal(value)
		require.NoError(t, err)
		return data
	}
	type object = map[string]any
	for range *events / 20 {
		var samples []sample
		var raws [][]byte
		var messages []any
		list := auditv1.EventList{Items: []auditv1.Event{}}
		for i := range 1 + g.IntN(8) {
			s := g.newSample(t)
			encoded, err := runtime.Encode(codec, s.event)
			require.NoError(t, err)
			samples, raws = append(samples, s), append(raws, bytes.TrimSpace(encoded))
			list.Items = append(list.Items, *s.event)
			messages = append(messages, object{"id": i, "timestamp": receivedAt * 1000, "message": string(encoded)})
		}
		// One in a container's log.
		first, firstRaw := samples[:1], raws[0]
		line := marshal(object{"log": string(firstRaw) + "\n", "stream": "stdout", "kubernetes": object{"pod_name": "p"}})
		wrapped := others
		wrapped.Stream, wrapped.Kubernetes.PodName = "stdout", "p"
		compare(t, normalizer, line, first, [][]byte{line}, wrapped, true)
		// Its members beside the shipper's.
		line = bytes.Join([][]byte{[]byte(`{"stream":"stdout","kubernetes":{"pod_name":"p"},`), firstRaw[1:]}, nil)
		compare(t, normalizer, line, first, [][]byte{line}, wrapped, true)
		// All in one record of CloudWatch Logs, of Azure, back to back.
		compare(t, normalizer, marshal(object{"messageType": "DATA_MESSAGE", "logGroup": "g", "logEvents": messages}), samples, raws, others, true)
		var records []any
		for _, raw := range raws {
			records = append(records, object{"category": "kube-audit", "properties": object{"log": string(raw) + "\n"}})
		}
		compare(t, normalizer, marshal(object{"records": records}), samples, raws, others, true)
		compare(t, normalizer, bytes.Join(raws, nil), samples, raws, others, true)
		// All in the webhook's list, whose items say nothing of their kind.
		encoded, err := runtime.Encode(codec, &list)
		require.NoError(t, err)
		var items struct{ Items []json.RawMessage }
		require.NoError(t, json.Unmarshal(encoded, &items))
		raws = raws[:0]
		for _, item := range items.Items {
			raws = append(raws, item)
		}
		compare(t, normalizer, bytes.TrimSpace(encoded), samples, raws, others, false)
	}
}
