package source_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
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
	"github.com/auditstream/auditstream/tests/servers"
)

// iam calls the emulator's IAM, while it still lets everyone.
func iam(t *testing.T, moto *servers.MotoServer, action string, parameters ...string) []byte {
	t.Helper()
	form := url.Values{"Action": {action}, "Version": {"2010-05-08"}}
	for i := 0; i < len(parameters); i += 2 {
		form.Set(parameters[i], parameters[i+1])
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, moto.Endpoint, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s: %s", action, body)
	return body
}

func text(t *testing.T, document any) string {
	t.Helper()
	bytes, err := json.Marshal(document)
	require.NoError(t, err)
	return string(bytes)
}

// forEmulator leaves out of a policy what the emulator doesn't understand: it
// asks for actions alone, on "*" where it doesn't know of what.
func forEmulator(t *testing.T, document any, without string) string {
	t.Helper()
	var policy struct {
		Version   string
		Statement []map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(text(t, document)), &policy))
	found := without == ""
	for _, statement := range policy.Statement {
		statement["Resource"] = "*"
		delete(statement, "Condition")
		var kept []any
		for _, action := range statement["Action"].([]any) {
			if action == without {
				found = true
				continue
			}
			kept = append(kept, action)
		}
		statement["Action"] = append(kept, "auditstream:Nothing")
	}
	require.True(t, found, "%s is not in the policy", without)
	return text(t, policy)
}

// The printed policies, applied to an account that enforces them, let the check
// pass; without any one permission it says which.
func TestCheckWithThePrintedPolicies(t *testing.T) {
	moto := servers.OwnMoto(t)
	var created struct {
		Key struct {
			ID     string `xml:"AccessKeyId"`
			Secret string `xml:"SecretAccessKey"`
		} `xml:"CreateAccessKeyResult>AccessKey"`
	}
	const user = "auditstream"
	iam(t, moto, "CreateUser", "UserName", user)
	require.NoError(t, xml.Unmarshal(iam(t, moto, "CreateAccessKey", "UserName", user), &created))
	iam(t, moto, "PutUserPolicy", "UserName", user, "PolicyName", "assume",
		"PolicyDocument", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}]}`)

	s := config.DefaultSource()
	s.ID, s.Bucket, s.Suffix = "production", servers.Name(t, "logs"), ".log"
	principal := "arn:aws:iam::" + servers.MotoAccount + ":user/" + user
	plan, err := source.NewPlan(s, []config.Source{s}, source.PlanOptions{
		Account: servers.MotoAccount, Region: moto.Region, Principal: principal, ExternalID: "0123abcd",
	})
	require.NoError(t, err)
	bucket := apply(t, moto, &plan)
	_, err = moto.S3("").PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("a.log"), Body: strings.NewReader("a\n"),
		ServerSideEncryption: s3types.ServerSideEncryptionAwsKms, SSEKMSKeyId: aws.String("key-1")})
	require.NoError(t, err)
	queueURL := *queueOf(t, moto, &plan)

	roles := map[string]string{} // by the action they lack
	for i, without := range []string{"", "s3:ListBucket", "s3:GetObject", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"} {
		name := fmt.Sprintf("%s-%d", plan.RoleName, i)
		iam(t, moto, "CreateRole", "RoleName", name, "AssumeRolePolicyDocument", text(t, plan.TrustPolicy()))
		iam(t, moto, "PutRolePolicy", "RoleName", name, "PolicyName", "auditstream", "PolicyDocument", forEmulator(t, plan.RolePolicy(), without))
		roles[without] = "arn:aws:iam::" + servers.MotoAccount + ":role/" + name
	}
	moto.EnforcePolicies(t)

	check := func(t *testing.T, role, externalID string) map[string]source.Step {
		t.Helper()
		one := s
		one.Role = config.Role{ARN: role, ExternalID: externalID}
		one.Queue.URL = queueURL
		cfg := config.S3{Endpoint: moto.Endpoint, Region: moto.Region, PathStyle: true,
			AccessKeyID: created.Key.ID, SecretAccessKey: config.Secret(created.Key.Secret)}
		store, err := objectstore.New(t.Context(), cfg, objectstore.Options{Sources: []config.Source{one}})
		require.NoError(t, err)
		steps := map[string]source.Step{}
		all := source.Check{S3: cfg, Source: one, Store: store, Identities: store.Identities(), Queue: intake.NewQueueClient(store.Identities(), &one)}
		all.Run(t.Context(), func(step source.Step) {
			t.Logf("%-8s %-9s %s", step.State, step.Name, step.Text)
			steps[step.Name] = step
		})
		require.Len(t, steps, 5)
		return steps
	}

	steps := check(t, roles[""], "0123abcd")
	for name, step := range steps {
		require.Equal(t, source.StateOK, step.State, "%s: %s", name, step.Text)
	}
	require.Contains(t, steps["identity"].Text, "assumed-role/"+plan.RoleName+"-0/auditstream")
	require.Contains(t, steps["queue"].Text, "about 1 messages waiting") // the bucket's notification came through
	require.Contains(t, steps["list"].Text, "the first object is a.log")
	require.Contains(t, steps["decrypt"].Text, "with key")
	require.Contains(t, steps["decrypt"].Text, "key-1")

	for without, wrong := range map[string]string{
		"s3:ListBucket": "list", "s3:GetObject": "get",
		"sqs:ReceiveMessage": "queue", "sqs:DeleteMessage": "queue", "sqs:GetQueueAttributes": "queue",
	} {
		t.Run(without, func(t *testing.T) {
			for name, step := range check(t, roles[without], "0123abcd") {
				if name == wrong {
					require.Equal(t, source.StateMissing, step.State, step.Text)
					require.Contains(t, step.Text, without)
				} else {
					require.NotEqual(t, source.StateMissing, step.State, "%s: %s", name, step.Text)
				}
			}
		})
	}
	// The one that was received is there again.
	require.Eventually(t, func() bool {
		return strings.Contains(check(t, roles[""], "0123abcd")["queue"].Text, "about 1 messages")
	}, 10*time.Second, time.Second)
	t.Run("external id", func(t *testing.T) {
		steps := check(t, roles[""], "another")
		require.Equal(t, source.StateMissing, steps["identity"].State)
		require.Contains(t, steps["identity"].Text, "sts:AssumeRole on "+roles[""])
		require.Contains(t, steps["identity"].Text, principal)
		require.Equal(t, source.StateSkipped, steps["get"].State)
	})
}

// S3 says of an object that its key is what one may not use.
func TestCheckTellsKeyFromObject(t *testing.T) {
	const list = `<ListBucketResult><Contents><Key>a.log</Key><Size>1</Size><ETag>"e"</ETag></Contents></ListBucketResult>`
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Get("list-type") != "":
			_, _ = io.WriteString(w, list)
		case strings.HasSuffix(r.URL.Path, "/a.log"):
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `<Error><Code>AccessDenied</Code><Message>User: u is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:r:1:key/k</Message></Error>`)
		}
	}))
	defer store.Close()
	s := config.DefaultSource()
	s.ID, s.Bucket = "a", "logs"
	cfg := config.S3{Endpoint: store.URL, Region: "eu-central-1", PathStyle: true, AccessKeyID: "a", SecretAccessKey: "b"}
	connected, err := objectstore.New(t.Context(), cfg, objectstore.Options{Sources: []config.Source{s}})
	require.NoError(t, err)
	steps := map[string]source.Step{}
	all := source.Check{S3: cfg, Source: s, Store: connected, Identities: connected.Identities()}
	all.Run(t.Context(), func(step source.Step) { steps[step.Name] = step })
	require.Equal(t, source.StateSkipped, steps["queue"].State)
	require.Equal(t, source.StateOK, steps["get"].State)
	require.Equal(t, source.StateMissing, steps["decrypt"].State)
	require.Contains(t, steps["decrypt"].Text, "kms:Decrypt on the key of s3://logs/a.log")
}

// What isn't there is told by its name and where it was looked for, and what
// can't be tried then is not called allowed.
func TestCheckOfWhatIsNotThere(t *testing.T) {
	moto := servers.Moto(t)
	s := config.DefaultSource()
	s.ID, s.Bucket = "a", servers.Name(t, "none")
	s.Queue.URL = moto.Endpoint + "/" + servers.MotoAccount + "/" + servers.Name(t, "none")
	check := func(cfg config.S3) map[string]source.Step {
		store, err := objectstore.New(t.Context(), cfg, objectstore.Options{Sources: []config.Source{s}})
		require.NoError(t, err)
		steps := map[string]source.Step{}
		all := source.Check{S3: cfg, Source: s, Store: store, Identities: store.Identities(), Queue: intake.NewQueueClient(store.Identities(), &s)}
		all.Run(t.Context(), func(step source.Step) {
			t.Logf("%-8s %-9s %s", step.State, step.Name, step.Text)
			steps[step.Name] = step
		})
		return steps
	}
	cfg := config.S3{Endpoint: moto.Endpoint, Region: moto.Region, PathStyle: true, AccessKeyID: "a", SecretAccessKey: "b"}
	steps := check(cfg)
	require.Equal(t, source.StateMissing, steps["queue"].State)
	require.Contains(t, steps["queue"].Text, "asked for in "+moto.Region+" (s3.region")
	require.Equal(t, source.StateMissing, steps["list"].State)
	require.Contains(t, steps["list"].Text, "there is no bucket "+s.Bucket)
	require.Equal(t, source.StateSkipped, steps["get"].State)
	require.Equal(t, source.StateSkipped, steps["decrypt"].State)

	s.Queue.Region = "us-west-2"
	require.Contains(t, check(cfg)["queue"].Text, "asked for in us-west-2: ")

	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<html>the proxy says no</html>")
	}))
	s.Queue.URL = refusing.URL + "/1/q"
	require.Contains(t, check(cfg)["queue"].Text, "sqs:GetQueueAttributes (HTTP status 403, in words that are not understood)")
	refusing.Close()
	require.Regexp(t, `: Post "http[^ ]+": dial tcp [^ ]+ connect: connection refused$`, check(cfg)["queue"].Text)
}

func apply(t *testing.T, moto *servers.MotoServer, plan *source.Plan) (bucket string) {
	t.Helper()
	bucket = plan.Source.Bucket
	_, err := moto.S3("").CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket,
		CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: s3types.BucketLocationConstraint(moto.Region)}})
	require.NoError(t, err)
	topic, err := moto.SNS("").CreateTopic(t.Context(), &sns.CreateTopicInput{Name: &plan.TopicName})
	require.NoError(t, err)
	require.Equal(t, plan.TopicARN, *topic.TopicArn)
	_, err = moto.SNS("").SetTopicAttributes(t.Context(), &sns.SetTopicAttributesInput{
		TopicArn: topic.TopicArn, AttributeName: aws.String("Policy"), AttributeValue: aws.String(text(t, plan.TopicPolicy())),
	})
	require.NoError(t, err)
	queue, err := moto.SQS("").CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &plan.QueueName,
		Attributes: map[string]string{"Policy": text(t, plan.QueuePolicy())}})
	require.NoError(t, err)
	attributes, err := moto.SQS("").GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: queue.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"}})
	require.NoError(t, err)
	require.Equal(t, plan.QueueARN, attributes.Attributes["QueueArn"])
	_, err = moto.SNS("").Subscribe(t.Context(), &sns.SubscribeInput{TopicArn: topic.TopicArn, Protocol: aws.String("sqs"), Endpoint: &plan.QueueARN,
		Attributes: map[string]string{"RawMessageDelivery": "true"}})
	require.NoError(t, err)
	var configuration s3types.NotificationConfiguration
	require.NoError(t, json.Unmarshal([]byte(text(t, plan.Notification())), &configuration))
	require.Len(t, configuration.TopicConfigurations, 1)
	_, err = moto.S3("").PutBucketNotificationConfiguration(t.Context(), &s3.PutBucketNotificationConfigurationInput{
		Bucket: &bucket, NotificationConfiguration: &configuration})
	require.NoError(t, err)
	// What S3 tests the topic with is not what the test waits for.
	_, err = moto.SQS("").PurgeQueue(t.Context(), &sqs.PurgeQueueInput{QueueUrl: queue.QueueUrl})
	require.NoError(t, err)
	return bucket
}

func queueOf(t *testing.T, moto *servers.MotoServer, plan *source.Plan) *string {
	t.Helper()
	out, err := moto.SQS("").GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: &plan.QueueName})
	require.NoError(t, err)
	return out.QueueUrl
}
