package source_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/services/auditstream/source"
	"github.com/auditstream/auditstream/tests/golden"
	"github.com/auditstream/auditstream/tests/servers"
)

func TestMain(m *testing.M) { servers.Main(m) }

const (
	account = "111122223333"
	region  = "eu-central-1"
)

func testSource(id, prefix, suffix string) config.Source {
	s := config.DefaultSource()
	s.ID, s.Bucket, s.Prefix, s.Suffix = id, "audit-logs", prefix, suffix
	s.Role.ExternalID = "0123abcd"
	return s
}

func testPlan(t *testing.T) source.Plan {
	t.Helper()
	s := testSource("production", "it's/", ".gz")
	plan, err := source.NewPlan(s, []config.Source{s, testSource("staging", "staging/", "")}, source.PlanOptions{Account: account, Region: region})
	require.NoError(t, err)
	return plan
}

func TestNames(t *testing.T) {
	require.Equal(t, "auditstream_kubernetes_audit", source.TopicName("auditstream_", "kubernetes-audit"))
	plan := testPlan(t)
	require.Equal(t, "arn:aws:sns:eu-central-1:111122223333:auditstream_kubernetes_audit", plan.TopicARN)
	require.Equal(t, "arn:aws:sqs:eu-central-1:111122223333:auditstream_kubernetes_audit", plan.QueueARN)
	require.Equal(t, "https://sqs.eu-central-1.amazonaws.com/111122223333/auditstream_kubernetes_audit", plan.QueueURL)

	s := testSource("prod", "", "")
	s.Queue.URL = "https://sqs.us-east-1.amazonaws.com/444455556666/mine"
	s.Role.ARN = "arn:aws:iam::111122223333:role/team/reader"
	plan, err := source.NewPlan(s, []config.Source{s}, source.PlanOptions{Account: account, Region: "cn-north-1", TopicPrefix: "acme-"})
	require.NoError(t, err)
	require.Equal(t, "arn:aws-cn:sns:cn-north-1:111122223333:acme-kubernetes_audit", plan.TopicARN)
	require.Equal(t, "arn:aws-cn:sqs:us-east-1:444455556666:mine", plan.QueueARN)
	require.True(t, plan.QueueIsElsewhere)
	require.Equal(t, "444455556666", plan.QueueAccount)
	require.Equal(t, "reader", plan.RoleName)
	require.Equal(t, "/team/", plan.RolePath)
	var script, module bytes.Buffer
	require.NoError(t, plan.WriteShell(&script))
	require.Contains(t, script.String(), "create-role --role-name reader --path /team/ ")
	require.NoError(t, plan.WriteTerraform(&module))
	require.Regexp(t, `role_path += "/team/"`, module.String())
}

func TestProblemsOfAPlan(t *testing.T) {
	s := testSource("a", "", "")
	s.Role.ExternalID, s.Region = "", "us-east-1"
	s.Role.ARN = "arn:aws:iam::444455556666:role/reader"
	_, err := source.NewPlan(s, nil, source.PlanOptions{Account: "1", Region: "eu", TopicPrefix: "a b", KMSKey: "k", MessageKey: "m"})
	for _, want := range []string{"--account", "--region \"eu\"", "not that of the bucket, us-east-1", "--topic-prefix", "--external-id", "role.arn is of account 444455556666", "--kms-key", "--message-kms-key"} {
		require.ErrorContains(t, err, want)
	}
}

func TestPrinted(t *testing.T) {
	plan := testPlan(t)
	var text bytes.Buffer
	require.NoError(t, plan.WriteJSON(&text))
	require.True(t, json.Valid(text.Bytes()))
	golden.Equal(t, "testdata/setup.json", text.String())
	text.Reset()
	require.NoError(t, plan.WriteShell(&text))
	golden.Equal(t, "testdata/setup.sh", text.String())
}

const messageKey = "arn:aws:kms:eu-central-1:111122223333:key/0a1b"

// encryptedPlan has a key for topic and queue.
func encryptedPlan(t *testing.T) source.Plan {
	t.Helper()
	s := testSource("production", "", "")
	plan, err := source.NewPlan(s, []config.Source{s}, source.PlanOptions{Account: account, Region: region, MessageKey: messageKey})
	require.NoError(t, err)
	return plan
}

// With a key, whoever puts messages in may use it, and who takes them out.
func TestPrintedWithAKeyForMessages(t *testing.T) {
	plan := encryptedPlan(t)
	var text bytes.Buffer
	require.NoError(t, plan.WriteJSON(&text))
	golden.Equal(t, "testdata/encrypted.json", text.String())
	text.Reset()
	require.NoError(t, plan.WriteShell(&text))
	golden.Equal(t, "testdata/encrypted.sh", text.String())
	require.NotContains(t, text.String(), "SqsManagedSseEnabled")
	text.Reset()
	require.NoError(t, plan.WriteTerraform(&text))
	golden.Equal(t, "testdata/encrypted.tf", text.String())
}

// elsewherePlan has a queue of another account.
func elsewherePlan(t *testing.T) source.Plan {
	t.Helper()
	s := testSource("production", "", "")
	s.Queue.URL = "https://sqs.eu-central-1.amazonaws.com/444455556666/theirs"
	plan, err := source.NewPlan(s, []config.Source{s}, source.PlanOptions{Account: account, Region: region})
	require.NoError(t, err)
	return plan
}

// The account of the queue may subscribe it, and nobody else does: from another
// one it would wait for a confirmation, which nobody gives.
func TestPrintedForAQueueOfAnotherAccount(t *testing.T) {
	plan := elsewherePlan(t)
	var text bytes.Buffer
	require.NoError(t, plan.WriteShell(&text))
	golden.Equal(t, "testdata/elsewhere.sh", text.String())
	require.Contains(t, text.String(), `"QueueOwnerSubscribes"`)
	require.NotContains(t, text.String(), "\naws sns subscribe")
	require.Contains(t, text.String(), "\n#   aws sns subscribe")
	require.NotContains(t, text.String(), "aws sqs create-queue")

	s := plan.Source
	s.Queue.URL = "https://sqs.us-east-1.amazonaws.com/" + account + "/ours"
	plan, err := source.NewPlan(s, []config.Source{s}, source.PlanOptions{Account: account, Region: region})
	require.NoError(t, err)
	text.Reset()
	require.NoError(t, plan.WriteShell(&text))
	require.NotContains(t, text.String(), "QueueOwnerSubscribes")
	require.Contains(t, text.String(), "\naws sns subscribe")
}

// S3 refuses filters that overlap; what only a glob tells apart is one.
func TestNotificationOfSourcesThatS3CantTellApart(t *testing.T) {
	a, b := testSource("a", "logs/a/", ".gz"), testSource("b", "logs/b/", "")
	c := testSource("c", "logs/a/", ".gz")
	a.Glob, c.Glob = "**/x/*", "**/y/*"
	plan, err := source.NewPlan(a, []config.Source{a, b, c}, source.PlanOptions{Account: account, Region: region})
	require.NoError(t, err)
	text, err := json.Marshal(plan.Notification())
	require.NoError(t, err)
	require.JSONEq(t, `{"TopicConfigurations":[{"Id":"auditstream-a","TopicArn":"`+plan.TopicARN+`","Events":["s3:ObjectCreated:*"],
		"Filter":{"Key":{"FilterRules":[{"Name":"prefix","Value":"logs/"}]}}}]}`, string(text))
}

// fakeAWS stands for the AWS command line: it writes down what it is called
// with, and answers as an account in which there is nothing, or what EXISTING says.
const fakeAWS = `#!/bin/sh
for word in "$@"; do printf '%s\n' "$word" | tr '\n' ' '; printf '\t'; done >> "$CALLS"
echo >> "$CALLS"
case "$1 $2" in
"sts get-caller-identity") echo 111122223333 ;;
"iam get-role") exit 1 ;;
"s3api get-bucket-notification-configuration") printf '%s' "$EXISTING" ;;
esac
`

func TestTheScriptRuns(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "aws"), []byte(fakeAWS), 0o700))
	plan := testPlan(t)
	var script bytes.Buffer
	require.NoError(t, plan.WriteShell(&script))
	run := func(existing string) (calls [][]string, output string, err error) {
		log := filepath.Join(t.TempDir(), "calls")
		command := exec.CommandContext(t.Context(), "sh")
		command.Stdin = bytes.NewReader(script.Bytes())
		command.Env = []string{"PATH=" + folder + ":" + os.Getenv("PATH"), "CALLS=" + log, "EXISTING=" + existing}
		said, err := command.CombinedOutput()
		text, readErr := os.ReadFile(log)
		require.NoError(t, readErr)
		for line := range strings.Lines(string(text)) {
			var words []string
			for word := range strings.SplitSeq(strings.TrimSpace(line), "\t") {
				words = append(words, strings.TrimSpace(word))
			}
			calls = append(calls, words)
		}
		return calls, string(said), err
	}
	calls, output, err := run("")
	require.NoError(t, err, output)
	documents := 0
	var names []string
	for _, call := range calls {
		names = append(names, call[0]+" "+call[1])
		for _, word := range call {
			if strings.HasPrefix(word, "{") {
				require.True(t, json.Valid([]byte(word)), word)
				documents++
			}
		}
	}
	require.Equal(t, []string{
		"sts get-caller-identity", "sns create-topic", "sns set-topic-attributes", "sqs create-queue", "sqs get-queue-attributes",
		"sqs set-queue-attributes", "sns subscribe", "iam get-role", "iam create-role", "iam update-assume-role-policy", "iam put-role-policy",
		"s3api get-bucket-notification-configuration", "s3api put-bucket-notification-configuration",
	}, names)
	require.Equal(t, 6, documents)
	require.Contains(t, calls[len(calls)-1][5], `it's/`)

	// What others have set up is not written over.
	for existing, other := range map[string]string{
		`{"QueueConfigurations": [{"Id": "other"}]}`:                                                      `"other"`,
		`{"TopicConfigurations": [{"Id": "auditstream-production"}, {"Id": "auditstream-production-2"}]}`: `"auditstream-production-2"`,
		`{"EventBridgeConfiguration": {}}`:                                                                `"EventBridgeConfiguration"`,
	} {
		calls, output, err = run(existing)
		require.Error(t, err, existing)
		require.Contains(t, output, "the bucket has other notifications: "+other+"\n")
		require.Contains(t, output, `"Id": "auditstream-staging"`)
		require.Equal(t, "get-bucket-notification-configuration", calls[len(calls)-1][1])
	}
	// What was set up for this source, and for another one of the bucket, is
	// brought to what the configuration says now.
	calls, output, err = run(`{"TopicConfigurations": [{"Id": "auditstream-staging"}, {"Id": "auditstream-production", "TopicArn": "` + plan.TopicARN + `"}]}`)
	require.NoError(t, err, output)
	require.Equal(t, "put-bucket-notification-configuration", calls[len(calls)-1][1])
}

// Keys of another account, and none, are told apart.
func TestTheScriptIsForItsAccount(t *testing.T) {
	plan := testPlan(t)
	var script bytes.Buffer
	require.NoError(t, plan.WriteShell(&script))
	for aws, told := range map[string]string{
		"echo 444455556666": "these are keys of account 444455556666, not of 111122223333\n",
		"echo 'Unable to locate credentials' >&2; exit 253": "Unable to locate credentials\n",
		// Version 1 of the command reads but this variable.
		`test "$AWS_DEFAULT_REGION" = eu-central-1 || echo in "$AWS_DEFAULT_REGION" >&2; exit 1`: "",
	} {
		folder := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(folder, "aws"), []byte("#!/bin/sh\n"+aws+"\n"), 0o700))
		command := exec.CommandContext(t.Context(), "sh")
		command.Stdin = bytes.NewReader(script.Bytes())
		command.Env = []string{"PATH=" + folder + ":" + os.Getenv("PATH"), "AWS_DEFAULT_REGION=us-east-1"}
		said, err := command.CombinedOutput()
		require.Error(t, err)
		require.Equal(t, told, string(said))
	}
}

// Two sources with one role each have a policy of their own in it: what is set
// up for the second takes nothing from the first.
func TestSourcesOfOneRole(t *testing.T) {
	var names []string
	a, b := testSource("a", "logs/", ""), testSource("b", "", "")
	b.Bucket = "others"
	elsewhere := testSource("c", "", "")
	elsewhere.Bucket = "third"
	for _, s := range []*config.Source{&a, &b} {
		s.Role.ARN = "arn:aws:iam::" + account + ":role/auditstream"
	}
	all := []config.Source{a, b, elsewhere}
	for _, s := range []config.Source{a, b} {
		plan, err := source.NewPlan(s, all, source.PlanOptions{Account: account, Region: region})
		require.NoError(t, err)
		var script, module bytes.Buffer
		require.NoError(t, plan.WriteShell(&script))
		require.Contains(t, script.String(), "put-role-policy --role-name auditstream --policy-name auditstream-"+s.ID+" ")
		names = append(names, plan.PolicyName)
		// One call of the module knows both, since it makes topic, queue and role.
		require.NoError(t, plan.WriteTerraform(&module))
		require.Contains(t, module.String(), `bucket = "audit-logs"`)
		require.Contains(t, module.String(), `bucket = "others"`)
		require.NotContains(t, module.String(), `bucket = "third"`)
	}
	require.NotEqual(t, names[0], names[1])

	// The trust policy has one external id.
	all[1].Role.ExternalID = "another1"
	_, err := source.NewPlan(a, all, source.PlanOptions{Account: account, Region: region})
	require.ErrorContains(t, err, `source b takes the same role with the external id "another1"`)
}
