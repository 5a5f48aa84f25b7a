package audit

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/auditstream/auditstream/pkg/event"
)

// The lines are of the size that production sees most, about 2 KB.
var benchLines = map[string]string{
	"metadata": metadataLine(),
	"response": responseLine(),
	"fluent":   inLogString(metadataLine()),
}

func metadataLine() string {
	return `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"0b1f5c1e-9c55-4a6e-8f0e-3a9f2f6d7c11","stage":"ResponseComplete",` +
		`"requestURI":"/apis/apps/v1/namespaces/payments/deployments/checkout/scale?fieldManager=kubectl&timeout=30s","verb":"patch",` +
		`"user":{"username":"system:serviceaccount:payments:deployer","uid":"3f7ab1f0-3d36-41e4-9f8b-2c8f7d1d2c11",` +
		`"groups":["system:serviceaccounts","system:serviceaccounts:payments","system:authenticated"],` +
		`"extra":{"authentication.kubernetes.io/credential-id":["JTI=6a1b0f5e-55c1-4f0c-93a5-0d8e7ddc1d11"],"authentication.kubernetes.io/node-name":["ip-10-0-3-17.eu-west-1.compute.internal"],` +
		`"authentication.kubernetes.io/node-uid":["5b7d4ad2-3f54-4c52-a34e-d51b8b9a0e11"],"authentication.kubernetes.io/pod-name":["deployer-7d9c6bdf7c-8xk2v"],"authentication.kubernetes.io/pod-uid":["9f0c1c5e-4a68-4b51-a1f4-2c07c3d92b11"]}},` +
		`"sourceIPs":["203.0.113.24","10.0.3.17"],"userAgent":"deployer/v2.14.0 (linux/amd64) kubernetes/$Format",` +
		`"objectRef":{"resource":"deployments","namespace":"payments","name":"checkout","apiGroup":"apps","apiVersion":"v1","resourceVersion":"88412093","subresource":"scale"},` +
		`"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2026-02-03T10:11:12.131415Z","stageTimestamp":"2026-02-03T10:11:12.151617Z",` +
		`"annotations":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"RBAC: allowed by RoleBinding \"deployer/payments\" of ClusterRole \"edit\" to ServiceAccount \"deployer/payments\"",` +
		`"mutation.webhook.admission.k8s.io/round_0_index_2":"{\"configuration\":\"mesh-injector\",\"webhook\":\"inject.mesh.example.com\",\"mutated\":false}",` +
		`"pod-security.kubernetes.io/enforce-policy":"baseline:latest"}}`
}

func responseLine() string {
	return `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"7f4ce5a1-15ab-40a5-8d54-7f2f0a3b9922","stage":"ResponseComplete",` +
		`"requestURI":"/api/v1/namespaces/web/configmaps?fieldManager=kubectl-client-side-apply","verb":"create",` +
		`"user":{"username":"jane@example.com","groups":["platform","system:authenticated"]},"sourceIPs":["198.51.100.7"],"userAgent":"kubectl/v1.34.1 (linux/amd64) kubernetes/93248f9",` +
		`"objectRef":{"resource":"configmaps","namespace":"web","name":"front","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":201},` +
		`"requestObject":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"front","namespace":"web","creationTimestamp":null,"labels":{"app":"front","tier":"edge"}},` +
		`"data":{"nginx.conf":"server {\n  listen 8080;\n  location / {\n    proxy_pass http://api:8080;\n    proxy_set_header Host $host;\n  }\n}\n","workers":"4"}},` +
		`"responseObject":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"front","namespace":"web","uid":"1c58ac6f-53a3-4e5c-8f5f-5c1b6a6c4411","resourceVersion":"88412101","creationTimestamp":"2026-02-03T10:11:12Z","labels":{"app":"front","tier":"edge"},` +
		`"managedFields":[{"manager":"kubectl-client-side-apply","operation":"Update","apiVersion":"v1","time":"2026-02-03T10:11:12Z","fieldsType":"FieldsV1","fieldsV1":{"f:data":{".":{},"f:nginx.conf":{},"f:workers":{}},"f:metadata":{"f:labels":{".":{},"f:app":{},"f:tier":{}}}}}]},` +
		`"data":{"nginx.conf":"server {\n  listen 8080;\n  location / {\n    proxy_pass http://api:8080;\n    proxy_set_header Host $host;\n  }\n}\n","workers":"4"}},` +
		`"requestReceivedTimestamp":"2026-02-03T10:11:12.131415Z","stageTimestamp":"2026-02-03T10:11:12.151617Z",` +
		`"annotations":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"RBAC: allowed by ClusterRoleBinding \"platform\" of ClusterRole \"edit\" to Group \"platform\""}}`
}

// inLogString is a line as Fluent Bit ships it when it parses nothing.
func inLogString(line string) string {
	escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(line)
	return `{"date":1770113472.151617,"stream":"stdout","time":"2026-02-03T10:11:12.151617000Z","log":"` + escaped + `\n","kubernetes":{"pod_name":"kube-apiserver-1","namespace_name":"kube-system",` +
		`"labels":{"component":"kube-apiserver","tier":"control-plane"},"host":"control-1"}}`
}

func BenchmarkNormalize(b *testing.B) {
	for _, name := range []string{"metadata", "response", "fluent"} {
		b.Run(name, func(b *testing.B) {
			line := Line{Bytes: []byte(benchLines[name]), ObjectID: testObject, Number: 1, ReceivedAt: 1_770_113_480_000}
			normalizer, rows := NewNormalizer(nil), 0
			emit := func(*event.Row) { rows++ }
			b.SetBytes(int64(len(line.Bytes)))
			b.ReportAllocs()
			for b.Loop() {
				normalizer.Normalize(testSource, line, emit)
			}
			if rows < b.N {
				b.Fatalf("%d rows of %d lines", rows, b.N)
			}
		})
	}
}

// BenchmarkTokens is the yardstick: a bare pass over the tokens of the same
// lines.
func BenchmarkTokens(b *testing.B) {
	for _, name := range []string{"metadata", "response", "fluent"} {
		b.Run(name, func(b *testing.B) {
			line := []byte(benchLines[name])
			// A bytes.Buffer is what the decoder reads without copying.
			reader := new(bytes.Buffer)
			decoder := jsontext.NewDecoder(reader)
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				*reader = *bytes.NewBuffer(line)
				decoder.Reset(reader)
				for {
					if _, err := decoder.ReadToken(); err != nil {
						if !errors.Is(err, io.EOF) {
							b.Fatal(err)
						}
						break
					}
				}
			}
		})
	}
}

// TestNormalizeAllocatesNothing holds the steady state to no allocation.
func TestNormalizeAllocatesNothing(t *testing.T) {
	normalizer := NewNormalizer(nil)
	emit := func(*event.Row) {}
	for name, text := range benchLines {
		list := `{"logGroup":"g","logEvents":[{"message":"` + inString(text) + `"},{"message":"` + inString(text) + `"}]}`
		for _, shape := range []string{text, inLogString(text), list, `{"kind":"EventList","items":[` + text + `]}`, text + text} {
			line := Line{Bytes: []byte(shape), ObjectID: testObject, Number: 1}
			if n := testing.AllocsPerRun(100, func() { normalizer.Normalize(testSource, line, emit) }); n != 0 {
				t.Errorf("%s: %v allocations a line", name, n)
			}
		}
	}
}

// BenchmarkTokensThrough is the yardstick for events in a string: a pass over
// the record's tokens, the string unquoted, and a pass over the event's.
func BenchmarkTokensThrough(b *testing.B) {
	line := []byte(benchLines["fluent"])
	var outer, inner bytes.Buffer
	var unquoted []byte
	record, wrapped := jsontext.NewDecoder(&outer), jsontext.NewDecoder(&inner)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		outer = *bytes.NewBuffer(line)
		record.Reset(&outer)
		for {
			if record.PeekKind() == '"' {
				value, err := record.ReadValue()
				if err != nil {
					b.Fatal(err)
				}
				if len(value) > 1000 {
					if unquoted, err = jsontext.AppendUnquote(unquoted[:0], value); err != nil {
						b.Fatal(err)
					}
					inner = *bytes.NewBuffer(unquoted)
					wrapped.Reset(&inner)
					for err == nil {
						_, err = wrapped.ReadToken()
					}
					if !errors.Is(err, io.EOF) {
						b.Fatal(err)
					}
				}
				continue
			}
			if _, err := record.ReadToken(); err != nil {
				break
			}
		}
	}
}
