package intake_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/tests/servers"
)

func TestMain(m *testing.M) { servers.Main(m) }

// account is one of AWS, seen from one region.
type account struct {
	t      *testing.T
	number string
	region string
	s3     *s3.Client
	sqs    *sqs.Client
	sns    *sns.Client
}

// newAccount is the emulator's own account, or another one, entered by a role.
func newAccount(t *testing.T, moto *servers.MotoServer, number, region string) *account {
	t.Helper()
	cfg := moto.Config(region)
	if number != servers.MotoAccount {
		out, err := moto.STS().AssumeRole(t.Context(), &sts.AssumeRoleInput{
			RoleArn: aws.String("arn:aws:iam::" + number + ":role/owner"), RoleSessionName: aws.String("test"),
		})
		require.NoError(t, err)
		keys := out.Credentials
		cfg.Credentials = credentials.NewStaticCredentialsProvider(*keys.AccessKeyId, *keys.SecretAccessKey, *keys.SessionToken)
	}
	return &account{
		t: t, number: number, region: region,
		s3:  s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }),
		sqs: sqs.NewFromConfig(cfg), sns: sns.NewFromConfig(cfg),
	}
}

func (a *account) bucket(prefix string) string {
	a.t.Helper()
	name := servers.Name(a.t, prefix)
	_, err := a.s3.CreateBucket(a.t.Context(), &s3.CreateBucketInput{Bucket: &name,
		CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: s3types.BucketLocationConstraint(a.region)}})
	require.NoError(a.t, err)
	return name
}

func (a *account) queue(attributes map[string]string) (url, arn string) {
	a.t.Helper()
	name := servers.Name(a.t, "queue")
	out, err := a.sqs.CreateQueue(a.t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	require.NoError(a.t, err)
	return *out.QueueUrl, fmt.Sprintf("arn:aws:sqs:%s:%s:%s", a.region, a.number, name)
}

// topicInto makes a topic that a queue is subscribed to.
func (a *account) topicInto(queueARN string, raw bool) string {
	a.t.Helper()
	topic, err := a.sns.CreateTopic(a.t.Context(), &sns.CreateTopicInput{Name: aws.String(servers.Name(a.t, "topic"))})
	require.NoError(a.t, err)
	_, err = a.sns.Subscribe(a.t.Context(), &sns.SubscribeInput{
		TopicArn: topic.TopicArn, Protocol: aws.String("sqs"), Endpoint: &queueARN,
		Attributes: map[string]string{"RawMessageDelivery": fmt.Sprint(raw)},
	})
	require.NoError(a.t, err)
	return *topic.TopicArn
}

// notify sends the bucket's events to a topic or queue.
func (a *account) notify(bucket, arn string) {
	a.t.Helper()
	events := []s3types.Event{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"}
	configuration := &s3types.NotificationConfiguration{}
	if strings.Contains(arn, ":sns:") {
		configuration.TopicConfigurations = []s3types.TopicConfiguration{{TopicArn: &arn, Events: events}}
	} else {
		configuration.QueueConfigurations = []s3types.QueueConfiguration{{QueueArn: &arn, Events: events}}
	}
	_, err := a.s3.PutBucketNotificationConfiguration(a.t.Context(), &s3.PutBucketNotificationConfigurationInput{
		Bucket: &bucket, NotificationConfiguration: configuration,
	})
	require.NoError(a.t, err)
}

func (a *account) put(bucket, key, content string) (etag string) {
	a.t.Helper()
	out, err := a.s3.PutObject(a.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(content)})
	require.NoError(a.t, err)
	return *out.ETag
}

func (a *account) send(queue string, bodies ...string) {
	a.t.Helper()
	for _, body := range bodies {
		_, err := a.sqs.SendMessage(a.t.Context(), &sqs.SendMessageInput{QueueUrl: &queue, MessageBody: &body})
		require.NoError(a.t, err)
	}
}

// drain takes all messages out of a queue.
func (a *account) drain(queue string) []string {
	a.t.Helper()
	var bodies []string
	for {
		out, err := a.sqs.ReceiveMessage(a.t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue, MaxNumberOfMessages: 10})
		require.NoError(a.t, err)
		if len(out.Messages) == 0 {
			return bodies
		}
		for _, message := range out.Messages {
			bodies = append(bodies, *message.Body)
			_, err := a.sqs.DeleteMessage(a.t.Context(), &sqs.DeleteMessageInput{QueueUrl: &queue, ReceiptHandle: message.ReceiptHandle})
			require.NoError(a.t, err)
		}
	}
}

// depth is how many messages a queue has, those under way included.
func (a *account) depth(queue string) (waiting, inFlight string) {
	a.t.Helper()
	out, err := a.sqs.GetQueueAttributes(context.Background(), &sqs.GetQueueAttributesInput{QueueUrl: &queue,
		AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll}})
	require.NoError(a.t, err)
	return out.Attributes["ApproximateNumberOfMessages"], out.Attributes["ApproximateNumberOfMessagesNotVisible"]
}

// s3Event is a notification of one object, its key in the spelling given.
func s3Event(source, event, bucket, key, etag string, size int) string {
	body, _ := json.Marshal(map[string]any{"Records": []any{map[string]any{
		"eventSource": source, "eventName": event, "eventTime": "2026-02-03T04:05:06.789Z", "awsRegion": "eu-central-1",
		"s3": map[string]any{
			"bucket": map[string]any{"name": bucket},
			"object": map[string]any{"key": key, "eTag": etag, "size": size},
		},
	}}})
	return string(body)
}

// bridgeEvent is EventBridge's.
func bridgeEvent(bucket, key, etag string, size int) string {
	body, _ := json.Marshal(map[string]any{
		"detail-type": "Object Created", "source": "aws.s3", "time": "2026-02-03T04:05:06Z", "region": "eu-central-1",
		"detail": map[string]any{
			"bucket": map[string]any{"name": bucket},
			"object": map[string]any{"key": key, "etag": etag, "size": size},
			"reason": "PutObject",
		},
	})
	return string(body)
}

// recorder is a proxy before the emulator that keeps the forms posted to it.
type recorder struct {
	*httptest.Server
	mu    sync.Mutex
	forms []url.Values
}

func newRecorder(t *testing.T, target string) *recorder {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	r := &recorder{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		if form, err := url.ParseQuery(string(body)); err == nil {
			r.mu.Lock()
			r.forms = append(r.forms, form)
			r.mu.Unlock()
		}
		request.Body = io.NopCloser(strings.NewReader(string(body)))
		proxy.ServeHTTP(w, request)
	}))
	t.Cleanup(r.Close)
	return r
}

// posted gives the forms of an action.
func (r *recorder) posted(action string) []url.Values {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []url.Values
	for _, form := range r.forms {
		if form.Get("Action") == action {
			found = append(found, form)
		}
	}
	return found
}

// faults is a proxy before the emulator that refuses while it is told to.
type faults struct {
	*httptest.Server
	refuse atomic.Bool
	fired  atomic.Int64
}

func newFaults(t *testing.T, target string) *faults {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	f := &faults{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if f.refuse.Load() {
			f.fired.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, request)
	}))
	t.Cleanup(f.Close)
	return f
}

func deletion(bucket, key string) *s3.DeleteObjectInput {
	return &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}
}

// twoRecords makes one message of two.
func twoRecords(a, b string) string {
	return strings.TrimSuffix(a, "]}") + "," + strings.TrimPrefix(b, `{"Records":[`)
}

func requireValid(t *testing.T, s3 config.S3, sources []config.Source) {
	t.Helper()
	cfg := config.Default()
	cfg.S3, cfg.Sources, cfg.Kafka.Instance = s3, sources, "one"
	require.NoError(t, cfg.Validate())
}

func connection(moto *servers.MotoServer) config.S3 {
	return config.S3{
		Endpoint: moto.Endpoint, Alias: "aws", Region: moto.Region, PathStyle: true,
		AccessKeyID: "test", SecretAccessKey: "test",
	}
}
