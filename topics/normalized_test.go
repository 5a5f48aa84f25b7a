package topics

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/topics/normalizedpb"
)

// sampleRow has every field set, each to another value.
func sampleRow() event.Row {
	return event.Row{
		WorkspaceID: "acme", SourceID: "prod-eu", SourceType: "kubernetes-audit", SourceTTL: 365,
		ReceivedAt: 1767225600, ID: "00112233445566778899aabbccddeeff-000000000042",
		EventTime: 1767225590, EventName: "create pods/exec", EventID: "5e3b1e5c-0c7c-4d0a-9a57-0b0f1f1f1f1f",
		Src: event.Endpoint{IP: "203.0.113.7", ASCountryCode: "SE", ASNumber: 64496, ASOrganization: "Example Carrier",
			City: "Linköping", ConnectionType: "Corporate", ISP: "Example ISP", Latitude: 58.4167, Longitude: 15.6167, UserType: "business"},
		Dst: event.Endpoint{IP: "198.51.100.1", ASCountryCode: "DE", ASNumber: 64497, ASOrganization: "Example Hosting",
			City: "Berlin", ConnectionType: "Cable/DSL", ISP: "Other ISP", Latitude: -33.5, Longitude: -0.25, UserType: "hosting"},
		Actor:     event.Map{{Key: "username", Value: "jane@example.com"}, {Key: "type", Value: "user"}, {Key: "uid", Value: ""}},
		Tags:      event.Map{{Key: "cluster", Value: "eu-1"}, {Key: "", Value: "no key"}},
		Resources: []string{"api/v1/namespaces/web/pods/api-1/exec", ""}, ServiceName: "kubernetes", ReadOnly: true,
		RawLog: []byte("{\"kind\":\"Event\",\"userAgent\":\"\xff\xfe\"}"),
		Date:   1767225591, Stream: "stdout", Time: 1767225592,
		Kind: "Event", APIVersion: "audit.k8s.io/v1", Level: "RequestResponse", AuditID: "audit-1", Stage: "ResponseStarted",
		RequestURI: "/api/v1/namespaces/web/pods/api-1/exec?command=sh", Verb: "create", UserUsername: "jane@example.com",
		UserGroups: []string{"dev", "system:authenticated"}, SourceIPs: []string{"10.0.0.1", "203.0.113.7"},
		UserAgent: "kubectl/v1.34.1", ObjectRefResource: "pods", ObjectRefNamespace: "web", ObjectRefName: "api-1",
		ObjectRefAPIVersion: "v1", ResponseStatusMetadata: `{"resourceVersion":"7"}`, ResponseStatusCode: -101,
		RequestReceivedTimestamp: "2026-01-01T00:00:00.000001Z", StageTimestamp: "2026-01-01T00:00:01.000000Z",
		AuthorizationDecision: "allow", AuthorizationReason: `RBAC: allowed by RoleBinding "dev/web"`,
		Kubernetes: event.KubernetesMetadata{PodName: "kube-apiserver-1", NamespaceName: "kube-system", PodID: "pod-id",
			LabelsComponent: "kube-apiserver", LabelsTier: "control-plane", Host: "node-1", ContainerName: "kube-apiserver",
			DockerID: "docker-id", ContainerHash: "container-hash", ContainerImage: "registry.example/kube-apiserver:v1.34.1"},
	}
}

func TestNormalizedAgreesWithGeneratedCode(t *testing.T) {
	row := sampleRow()
	encoded := AppendNormalized(nil, &row)

	var message normalizedpb.Event
	require.NoError(t, proto.Unmarshal(encoded, &message))
	require.Empty(t, message.ProtoReflect().GetUnknown(), "every field written is in normalized.proto")

	fields := message.ProtoReflect().Descriptor().Fields()
	require.Equal(t, 69, fields.Len(), "one field for each column")
	for i := range fields.Len() {
		field := fields.Get(i)
		require.Equal(t, protoreflect.FieldNumber(i+1), field.Number(), "field %s is numbered as its column", field.Name())
		require.True(t, message.ProtoReflect().Has(field), "the sample sets %s, so it must be written", field.Name())
	}

	for name, bytes := range map[string][]byte{"ours": encoded, "generated": must(proto.Marshal(&message))(t)} {
		var decoded event.Row
		require.NoError(t, DecodeNormalized(bytes, &decoded), name)
		// The generated code's map order is free.
		sorted := cmpopts.SortSlices(func(a, b event.Pair) bool { return a.Key < b.Key })
		require.Empty(t, cmp.Diff(row, decoded, sorted), name)
	}
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		require.NoError(t, err)
		return value
	}
}

// The golden file is the message as JSON, so that a change of the encoding
// shows in a review; the bytes are decoded from it and compared.
func TestNormalizedGolden(t *testing.T) {
	row := sampleRow()
	encoded := AppendNormalized(nil, &row)
	golden := filepath.Join("testdata", "normalized.bin")
	readable := filepath.Join("testdata", "normalized.json")
	if *update {
		var message normalizedpb.Event
		require.NoError(t, proto.Unmarshal(encoded, &message))
		require.NoError(t, os.WriteFile(golden, encoded, 0o600))
		writeGoldenJSON(t, readable, must(protojson.Marshal(&message))(t))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, want, encoded)

	var fromJSON, fromBytes normalizedpb.Event
	text, err := os.ReadFile(readable)
	require.NoError(t, err)
	require.NoError(t, protojson.Unmarshal(text, &fromJSON))
	require.NoError(t, proto.Unmarshal(want, &fromBytes))
	require.True(t, proto.Equal(&fromJSON, &fromBytes), "the readable golden file tells what the bytes hold")
}

func TestNormalizedReusedRowKeepsNothing(t *testing.T) {
	full, bare := sampleRow(), event.Row{ID: "00112233445566778899aabbccddeeff-000000000001"}
	var row event.Row
	require.NoError(t, DecodeNormalized(AppendNormalized(nil, &full), &row))
	require.NoError(t, DecodeNormalized(AppendNormalized(nil, &bare), &row))
	require.Empty(t, cmp.Diff(bare, row, cmpopts.EquateEmpty()))
}

func TestNormalizedPassesOverUnknownFields(t *testing.T) {
	row := sampleRow()
	encoded := AppendNormalized(nil, &row)
	newer := append([]byte{}, encoded...)
	newer = appendText(newer, 70, "a column of a later version")
	newer = appendNumber(newer, 71, 5)
	newer = append(newer, 0xc5, 0x04, 1, 2, 3, 4) // field 72, four fixed bytes
	var decoded event.Row
	require.NoError(t, DecodeNormalized(newer, &decoded))
	require.Empty(t, cmp.Diff(row, decoded))
}

func TestNormalizedCutAnywhere(t *testing.T) {
	row := sampleRow()
	encoded := AppendNormalized(nil, &row)
	whole := 0
	for cut := range len(encoded) {
		var decoded event.Row
		err := DecodeNormalized(encoded[:cut], &decoded)
		if err == nil {
			whole++ // the cut fell between two fields
			continue
		}
		require.True(t, errors.Is(err, ErrMalformed), "cut at %d: %v", cut, err)
	}
	require.Less(t, whole, 100)
}

func TestNormalizedAllocatesNothing(t *testing.T) {
	row := sampleRow()
	encoded := AppendNormalized(nil, &row)
	var decoded event.Row
	buffer := make([]byte, 0, 2*len(encoded))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		buffer = AppendNormalized(buffer[:0], &row)
		if err := DecodeNormalized(encoded, &decoded); err != nil {
			t.Fatal(err)
		}
	}))
}

func FuzzDecodeNormalized(f *testing.F) {
	row := sampleRow()
	f.Add(AppendNormalized(nil, &row))
	f.Add([]byte{0x32, 1, 'x', 0xf2, 0x01, 2, 0x0a, 0x05})
	f.Fuzz(func(t *testing.T, data []byte) {
		var decoded, again event.Row
		if err := DecodeNormalized(data, &decoded); err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		require.NoError(t, DecodeNormalized(AppendNormalized(nil, &decoded), &again))
		require.Empty(t, cmp.Diff(decoded, again, cmpopts.EquateEmpty(), cmpopts.EquateNaNs()))
	})
}

func BenchmarkNormalized(b *testing.B) {
	row := sampleRow()
	encoded := AppendNormalized(nil, &row)
	b.Run("encode", func(b *testing.B) {
		b.SetBytes(int64(len(encoded)))
		b.ReportAllocs()
		var buffer []byte
		for b.Loop() {
			buffer = AppendNormalized(buffer[:0], &row)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(encoded)))
		b.ReportAllocs()
		var decoded event.Row
		for b.Loop() {
			if err := DecodeNormalized(encoded, &decoded); err != nil {
				b.Fatal(err)
			}
		}
	})
}
