package audit

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/event"
)

var testSource = &Source{WorkspaceID: "workspace", ID: "source", Type: "kubernetes-audit", TTLDays: 30}

const testObject = "0123456789abcdef0123456789abcdef"

// corpus finds the collection of real logs: beside the project, or where
// AUDITSTREAM_CORPUS says.
func corpus(t testing.TB) string {
	folder := os.Getenv("AUDITSTREAM_CORPUS")
	if folder == "" {
		root, err := filepath.Abs(".")
		require.NoError(t, err)
		for {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
			require.NotEqual(t, "/", root, "no go.mod above the test")
			root = filepath.Dir(root)
		}
		folder = filepath.Join(root, "..", "shared", "corpus")
	}
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("the corpus of real audit logs is not at %s; set AUDITSTREAM_CORPUS to run this test", folder)
	}
	return folder
}

// corpusLines reads a file as the splitter would hand it over: a line each, and
// a .json file, which may be printed over many lines, as one.
func corpusLines(t testing.TB, path string) [][]byte {
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	if strings.HasSuffix(path, ".gz") {
		reader, err := gzip.NewReader(bytes.NewReader(data))
		require.NoError(t, err)
		data, err = io.ReadAll(reader)
		require.NoError(t, err)
	}
	if strings.HasSuffix(path, ".json") || strings.HasSuffix(path, ".txt") {
		return [][]byte{data}
	}
	return bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
}

// tally counts outcomes by name: "rows", reasons and skips.
type tally map[string]int

func (c tally) add(result Result) {
	if result.Rows > 0 {
		c["rows"] += result.Rows
	}
	for _, rejection := range result.Rejections {
		c[string(rejection.Reason)]++
	}
	for _, skipped := range result.Skips {
		c[string(skipped.Reason)] += skipped.Count
	}
}

// Each audit event of the corpus is a row; what is none has its reason.
var corpusOutcomes = map[string]tally{}

func TestCorpus(t *testing.T) {
	folder := corpus(t)
	var files []string
	for _, pattern := range []string{"audit_events/*", "audit_events_bulk/*", "odd/*", "wrappers_*/*", "constructed/*"} {
		found, err := filepath.Glob(filepath.Join(folder, pattern))
		require.NoError(t, err)
		files = append(files, found...)
	}
	sort.Strings(files)
	require.NotEmpty(t, files)
	normalizer := NewNormalizer(nil)
	for _, file := range files {
		name, err := filepath.Rel(folder, file)
		require.NoError(t, err)
		if name == "constructed/geoip_expected.json" {
			continue // a table of expectations, not a log
		}
		t.Run(name, func(t *testing.T) {
			got := tally{}
			for i, line := range corpusLines(t, file) {
				ids := map[string]bool{}
				result := normalizer.Normalize(testSource, Line{Bytes: line, ObjectID: testObject, Number: int64(i + 1), ReceivedAt: 1_700_000_000_000}, func(row *event.Row) {
					require.False(t, ids[row.ID], "two rows have the id %s", row.ID)
					ids[strings.Clone(row.ID)] = true
					requireValidTexts(t, row)
				})
				require.Len(t, ids, result.Rows)
				for _, rejection := range result.Rejections {
					t.Logf("line %d: %s: %s", i+1, rejection.Reason, rejection.Detail)
				}
				before := len(got)
				got.add(result)
				require.NotZero(t, before+len(got), "line %d has no outcome", i+1)
			}
			require.Equal(t, corpusOutcomes[name], got)
		})
	}
}

// requireValidTexts checks that every text column is valid UTF-8.
func requireValidTexts(t testing.TB, row *event.Row) {
	for _, text := range rowTexts(row) {
		if !utf8.ValidString(text) {
			t.Fatalf("invalid UTF-8 in a text column: %q", text)
		}
	}
}

func rowTexts(row *event.Row) []string {
	texts := []string{
		row.ID, row.EventName, row.EventID, row.Src.IP, row.Dst.IP, row.Stream, row.Kind, row.APIVersion,
		row.Level, row.AuditID, row.Stage, row.RequestURI, row.Verb, row.UserUsername, row.UserAgent,
		row.ObjectRefResource, row.ObjectRefNamespace, row.ObjectRefName, row.ObjectRefAPIVersion,
		row.ResponseStatusMetadata, row.RequestReceivedTimestamp, row.StageTimestamp,
		row.AuthorizationDecision, row.AuthorizationReason,
		row.Kubernetes.PodName, row.Kubernetes.NamespaceName, row.Kubernetes.PodID, row.Kubernetes.LabelsComponent,
		row.Kubernetes.LabelsTier, row.Kubernetes.Host, row.Kubernetes.ContainerName, row.Kubernetes.DockerID,
		row.Kubernetes.ContainerHash, row.Kubernetes.ContainerImage,
	}
	texts = append(texts, row.Resources...)
	texts = append(texts, row.UserGroups...)
	texts = append(texts, row.SourceIPs...)
	for _, pairs := range []event.Map{row.Actor, row.Tags} {
		for _, pair := range pairs {
			texts = append(texts, pair.Key, pair.Value)
		}
	}
	return texts
}
