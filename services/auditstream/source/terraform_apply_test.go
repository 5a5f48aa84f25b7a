package source_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/services/auditstream/source"
	"github.com/auditstream/auditstream/services/fetcher/intake"
	"github.com/auditstream/auditstream/tests/golden"
	"github.com/auditstream/auditstream/tests/servers"
)

// terraformVariable names the program, which finds the AWS provider as it does
// everywhere: in its registry, or where its configuration file says.
const terraformVariable = "AUDITSTREAM_TEST_TERRAFORM"

// terraform runs in a folder, against the emulator.
type terraform struct {
	program, folder string
	environ         []string
}

// newTerraform has the call of the module in its folder, and the module beside.
func newTerraform(t *testing.T, endpoint, call string) *terraform {
	t.Helper()
	program := os.Getenv(terraformVariable)
	if program == "" {
		t.Skipf("the module is applied only when %s names terraform or tofu, as that needs the AWS provider (700 MB) and a minute", terraformVariable)
	}
	tf := &terraform{program: program, folder: t.TempDir()}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "AWS_") {
			tf.environ = append(tf.environ, variable)
		}
	}
	tf.environ = append(tf.environ, "AWS_ENDPOINT_URL="+endpoint, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "TF_INPUT=0")
	require.NoError(t, os.CopyFS(filepath.Join(tf.folder, "module"), os.DirFS(moduleFolder)))
	const remote = `"github.com/auditstream/auditstream//deploy/terraform"`
	require.Contains(t, call, remote)
	require.NoError(t, os.WriteFile(filepath.Join(tf.folder, "main.tf"), []byte(strings.Replace(call, remote, `"./module"`, 1)+`
output "made" {
  value = module.auditstream
}

provider "aws" {
  region                  = "eu-central-1"
  access_key              = "test"
  secret_key              = "test"
  s3_use_path_style       = true
  skip_metadata_api_check = true
}
`), 0o600))
	tf.run(t, "init", "-no-color")
	return tf
}

func (tf *terraform) run(t *testing.T, arguments ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), tf.program, arguments...)
	command.Dir, command.Env = tf.folder, tf.environ
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	require.NoError(t, command.Run(), "%s %s:\n%s%s", tf.program, arguments, &stdout, &stderr)
	return stdout.String()
}

// What the provider is said to know is what it knows; -update writes it anew.
func TestTheProvidersSchema(t *testing.T) {
	plan := testPlan(t)
	var call bytes.Buffer
	require.NoError(t, plan.WriteTerraform(&call))
	tf := newTerraform(t, "http://127.0.0.1:1", call.String())
	tf.run(t, "validate", "-no-color")
	tf.run(t, "fmt", "-check", "-diff", "-no-color", "module")
	type kinds map[string]struct{ Block described }
	var all struct {
		Providers map[string]struct {
			Resources kinds `json:"resource_schemas"`
			Data      kinds `json:"data_source_schemas"`
		} `json:"provider_schemas"`
	}
	require.NoError(t, json.Unmarshal([]byte(tf.run(t, "providers", "schema", "-json")), &all))
	require.Len(t, all.Providers, 1)
	known := map[string]*schema{}
	for _, provider := range all.Providers {
		for kind := range moduleBlocks(t) {
			of, label := provider.Resources, strings.TrimPrefix(kind, "resource ")
			if data, is := strings.CutPrefix(kind, "data "); is {
				of, label = provider.Data, data
			}
			require.Contains(t, of, label)
			block := of[label].Block
			known[kind] = block.schema()
		}
	}
	got, err := json.MarshalIndent(known, "", "  ")
	require.NoError(t, err)
	golden.Equal(t, providerFile, string(got)+"\n")
}

// The printed call, applied: its policies are the printed ones, the check finds
// all that a source needs, a new object is told of, nothing is left to change,
// and all of it can be taken away again.
func TestTheModuleApplied(t *testing.T) {
	if os.Getenv(terraformVariable) == "" {
		newTerraform(t, "", "")
	}
	moto := servers.OwnMoto(t)
	s := config.DefaultSource()
	s.ID, s.Bucket, s.Prefix, s.Suffix, s.Role.ExternalID = "production", servers.Name(t, "logs"), "it's/", ".gz", "0123abcd"
	plan, err := source.NewPlan(s, []config.Source{s}, source.PlanOptions{Account: servers.MotoAccount, Region: moto.Region})
	require.NoError(t, err)
	_, err = moto.S3("").CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &s.Bucket,
		CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: s3types.BucketLocationConstraint(moto.Region)}})
	require.NoError(t, err)
	var call bytes.Buffer
	require.NoError(t, plan.WriteTerraform(&call))
	tf := newTerraform(t, moto.Endpoint, call.String())

	tf.run(t, "plan", "-no-color", "-out=first")
	require.Empty(t, unknownPolicies(t, tf.run(t, "show", "-json", "first")), "policies that can't be read in the plan")
	tf.run(t, "apply", "-no-color", "first")
	tf.run(t, "plan", "-no-color", "-detailed-exitcode") // fails when something would change
	var made struct{ Topic, Queue, Role string }
	require.NoError(t, json.Unmarshal([]byte(strings.NewReplacer(`"topic_arn"`, `"Topic"`, `"queue_url"`, `"Queue"`, `"role_arn"`, `"Role"`).
		Replace(tf.run(t, "output", "-json", "made"))), &made))
	require.Equal(t, plan.TopicARN, made.Topic)
	require.Equal(t, plan.RoleARN, made.Role)
	appliedPolicies(t, moto, &plan, made.Queue)

	const key = "it's/2026/a b+c.gz"
	_, err = moto.S3("").PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.Bucket, Key: aws.String(key), Body: strings.NewReader("a\n")})
	require.NoError(t, err)
	s.Role.ARN, s.Queue.URL = made.Role, made.Queue
	cfg := config.S3{Endpoint: moto.Endpoint, Region: moto.Region, PathStyle: true, AccessKeyID: "test", SecretAccessKey: "test"}
	store, err := objectstore.New(t.Context(), cfg, objectstore.Options{Sources: []config.Source{s}})
	require.NoError(t, err)
	steps := map[string]source.Step{}
	check := source.Check{S3: cfg, Source: s, Store: store, Identities: store.Identities(), Queue: intake.NewQueueClient(store.Identities(), &s)}
	check.Run(t.Context(), func(step source.Step) {
		require.Equal(t, source.StateOK, step.State, "%s: %s", step.Name, step.Text)
		steps[step.Name] = step
	})
	require.Contains(t, steps["identity"].Text, "assumed-role/"+plan.RoleName)
	require.Contains(t, steps["list"].Text, key)
	told := map[string]bool{}
	for deadline := time.Now().Add(time.Minute); !told[key]; {
		require.True(t, time.Now().Before(deadline), "the queue told of %v", told)
		received, err := moto.SQS("").ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: &made.Queue, MaxNumberOfMessages: 10, WaitTimeSeconds: 2})
		require.NoError(t, err)
		for _, message := range received.Messages {
			var body struct {
				Records []struct {
					S3 struct{ Object struct{ Key string } }
				}
			}
			require.NoError(t, json.Unmarshal([]byte(*message.Body), &body), *message.Body)
			for _, record := range body.Records {
				key, err := url.QueryUnescape(record.S3.Object.Key)
				require.NoError(t, err)
				told[key] = true
			}
		}
	}

	tf.run(t, "destroy", "-no-color", "-auto-approve")
	_, err = moto.SNS("").GetTopicAttributes(t.Context(), &sns.GetTopicAttributesInput{TopicArn: &plan.TopicARN})
	require.Error(t, err)
}

// unknownPolicies are the resources whose policy a plan does not show.
func unknownPolicies(t *testing.T, plan string) []string {
	t.Helper()
	var planned struct {
		Changes []struct {
			Address string
			Change  struct {
				Unknown map[string]any `json:"after_unknown"`
			}
		} `json:"resource_changes"`
	}
	require.NoError(t, json.Unmarshal([]byte(plan), &planned))
	require.NotEmpty(t, planned.Changes)
	var all []string
	for _, resource := range planned.Changes {
		// A topic and a queue tell the policy that another resource gives them.
		own := strings.Contains(resource.Address, "_policy.") || strings.Contains(resource.Address, "aws_iam_role.")
		if own && (resource.Change.Unknown["policy"] == true || resource.Change.Unknown["assume_role_policy"] == true) {
			all = append(all, resource.Address)
		}
	}
	return all
}

// appliedPolicies asks the account.
func appliedPolicies(t *testing.T, moto *servers.MotoServer, plan *source.Plan, queue string) {
	t.Helper()
	topic, err := moto.SNS("").GetTopicAttributes(t.Context(), &sns.GetTopicAttributesInput{TopicArn: &plan.TopicARN})
	require.NoError(t, err)
	require.Equal(t, allows(t, text(t, plan.TopicPolicy())), allows(t, topic.Attributes["Policy"]))
	attributes, err := moto.SQS("").GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &queue,
		AttributeNames: []sqstypes.QueueAttributeName{"All"}})
	require.NoError(t, err)
	require.Equal(t, plan.QueueARN, attributes.Attributes["QueueArn"])
	require.Equal(t, "1209600", attributes.Attributes["MessageRetentionPeriod"])
	require.Equal(t, allows(t, text(t, plan.QueuePolicy())), allows(t, attributes.Attributes["Policy"]))
	var role struct {
		Policy string `xml:"GetRolePolicyResult>PolicyDocument"`
	}
	require.NoError(t, xml.Unmarshal(iam(t, moto, "GetRolePolicy", "RoleName", plan.RoleName, "PolicyName", "auditstream"), &role))
	require.Equal(t, allows(t, text(t, plan.RolePolicy())), allows(t, unescaped(t, role.Policy)))
	var trust struct {
		Policy string `xml:"GetRoleResult>Role>AssumeRolePolicyDocument"`
	}
	require.NoError(t, xml.Unmarshal(iam(t, moto, "GetRole", "RoleName", plan.RoleName), &trust))
	require.Equal(t, allows(t, text(t, plan.TrustPolicy())), allows(t, unescaped(t, trust.Policy)))
	given, err := moto.S3("").GetBucketNotificationConfiguration(t.Context(), &s3.GetBucketNotificationConfigurationInput{Bucket: &plan.Source.Bucket})
	require.NoError(t, err)
	require.Len(t, given.TopicConfigurations, 1)
	require.Equal(t, plan.TopicARN, *given.TopicConfigurations[0].TopicArn)
}

// unescaped is a policy as IAM's answers have it.
func unescaped(t *testing.T, policy string) string {
	t.Helper()
	if strings.HasPrefix(strings.TrimSpace(policy), "{") {
		return policy
	}
	plain, err := url.PathUnescape(policy)
	require.NoError(t, err)
	return plain
}
