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
var corpusOutcomes = map[string]tally{
	"audit_events/afcollins_single.ndjson":                          {"rows": 1},
	"audit_events/audit2rbac_demo_v1.ndjson":                        {"rows": 37},
	"audit_events/audit2rbac_v1beta1_a.ndjson":                      {"rows": 454},
	"audit_events/falco_traces_a.ndjson":                            {"rows": 34},
	"audit_events/gitops_reverser_events.ndjson":                    {"rows": 3},
	"audit_events/harvester_rke2.ndjson":                            {"rows": 1},
	"audit_events/k8s_docs_v1beta1.ndjson":                          {"rows": 2},
	"audit_events/khi_oss.ndjson":                                   {"rows": 1},
	"audit_events/openshift_apiaudit_in_a.ndjson":                   {"rows": 60},
	"audit_events/openshift_apiaudit_out_exporter.ndjson":           {"rows": 9},
	"audit_events/openshift_apiaudit_small.ndjson":                  {"rows": 5},
	"audit_events/openshift_raw_samples.ndjson":                     {"rows": 4},
	"audit_events/panther_k8s_rules_a.ndjson":                       {"rows": 96},
	"audit_events/rbactool_01.ndjson":                               {"rows": 3},
	"audit_events/rbactool_02.ndjson":                               {"rows": 3},
	"audit_events_bulk/hkerma_perfspec_a.ndjson":                    {"rows": 9937},
	"constructed/eks_cwl_firehose_concat.json":                      {"control-message": 1, "rows": 10},
	"constructed/eks_cwl_firehose_concat_gz_members.gz":             {"control-message": 1, "rows": 10},
	"constructed/fluentbit_cri_partials.ndjson":                     {"partial-line": 2, "rows": 1},
	"constructed/fluentbit_s3_iso8601_cri.ndjson":                   {"rows": 10},
	"constructed/fluentbit_s3_log_key_log.log":                      {"blank": 10, "rows": 10},
	"constructed/fluentbit_s3_log_string.ndjson":                    {"rows": 10},
	"constructed/fluentbit_s3_log_string.ndjson.gz":                 {"rows": 10},
	"constructed/fluentbit_s3_merge_log.ndjson":                     {"rows": 10},
	"constructed/fluentbit_s3_two_members.ndjson.gz":                {"rows": 10},
	"constructed/fluentd_s3_out_file.tsv":                           {"rows": 10},
	"constructed/geoip_source_ips.ndjson":                           {"rows": 14},
	"constructed/malformed_a.ndjson":                                {"blank": 2, "not-audit-event": 2, "not-json": 1, "rows": 15},
	"constructed/vector_kubernetes_logs.ndjson":                     {"rows": 5},
	"odd/gitops_reverser_placeholders_a.ndjson":                     {"rows": 12},
	"wrappers_aks/panther_aks_a.ndjson":                             {"not-audit-event": 1, "rows": 20},
	"wrappers_aks/sysdig_eventhub_inner_events.ndjson":              {"rows": 22},
	"wrappers_aks/sysdig_eventhub_records.json":                     {"rows": 22},
	"wrappers_cloudwatch/cloudWatchLogEvent.decoded.json":           {"not-audit-event": 2},
	"wrappers_cloudwatch/cloudWatchLogEvent.json":                   {"not-audit-event": 1},
	"wrappers_cloudwatch/cwl_subscription_pretty.json":              {"not-json": 3},
	"wrappers_cloudwatch/otel_multiple_json_objects.json":           {"not-audit-event": 2},
	"wrappers_fluent/ama_logs_kubernetes_object.json":               {"not-audit-event": 1},
	"wrappers_fluent/fluentbit_dataprepper_nginx.ndjson":            {"not-audit-event": 1},
	"wrappers_fluent/fluentbit_filter_kubernetes_tests_a.ndjson":    {"not-audit-event": 7, "not-json": 1},
	"wrappers_fluent/fluentbit_http_array_kube_system.json":         {"not-audit-event": 1},
	"wrappers_fluent/fluentd_kubernetes_metadata_filter_readme.txt": {"not-json": 1},
	"wrappers_gke/khi_a.ndjson":                                     {"unsupported-format": 6},
	"wrappers_gke/otel_gke_activity.json":                           {"unsupported-format": 1},
	"wrappers_gke/panther_gke_a.ndjson":                             {"unsupported-format": 21},
	"wrappers_openshift/viaq_audit_kubernetes.ndjson":               {"rows": 1},
	"wrappers_openshift/viaq_container.ndjson":                      {"not-audit-event": 1},
	"wrappers_webhook/gitops_reverser_eventlists_a.ndjson":          {"rows": 6},
	"wrappers_webhook/k8s_docs_eventlist_v1beta1.json":              {"rows": 1},
}

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
