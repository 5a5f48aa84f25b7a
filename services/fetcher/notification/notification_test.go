package notification_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/services/fetcher/notification"
)

// s3Record is one record as S3 writes it.
func s3Record(name, key, etag, more string) string {
	return `{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"eu-central-1","eventTime":"2026-02-03T04:05:06.789Z","eventName":"` + name +
		`","s3":{"bucket":{"name":"logs","arn":"arn:aws:s3:::logs"},"object":{"key":"` + key + `","eTag":"` + etag + `"` + more + `}}}`
}

func records(all ...string) string { return `{"Records":[` + strings.Join(all, ",") + `]}` }

func quoted(text string) string {
	bytes, _ := json.Marshal(text)
	return string(bytes)
}

func sns(message string) string {
	return `{"Type":"Notification","MessageId":"1","TopicArn":"arn:aws:sns:eu-central-1:111122223333:t","Subject":"Amazon S3 Notification","Message":` +
		quoted(message) + `,"Timestamp":"2026-02-03T04:05:07Z","UnsubscribeURL":"https://example.com"}`
}

const bridge = `{"version":"0","id":"1","detail-type":"Object Created","source":"aws.s3","account":"111122223333","time":"2026-02-03T04:05:06Z",
	"region":"eu-central-1","resources":["arn:aws:s3:::logs"],"detail":{"version":"0","bucket":{"name":"logs"},
	"object":{"key":"a b+c/d=1.gz","size":12,"etag":"0123","version-id":"v1","sequencer":"1"},"reason":"PutObject"}}`

func TestOneObjectHoweverItIsAnnounced(t *testing.T) {
	want := notification.Event{
		Name: "ObjectCreated:Put", Bucket: "logs", Key: "a b+c/d=1.gz", ETag: "0123", Version: "v1",
		Region: "eu-central-1", Size: 12, Time: time.Date(2026, 2, 3, 4, 5, 6, 789e6, time.UTC),
	}
	const more = `,"size":12,"versionId":"v1","sequencer":"1"`
	direct := records(s3Record("ObjectCreated:Put", "a+b%2Bc/d%3D1.gz", "0123", more))
	minio := `{"EventName":"s3:ObjectCreated:Put","Key":"logs/a b+c/d=1.gz",` +
		strings.Replace(records(s3Record("s3:ObjectCreated:Put", "a+b%2Bc%2Fd%3D1.gz", `\"0123\"`, more)), "aws:s3", "minio:s3", 1)[1:]
	for name, body := range map[string]string{
		"direct":               direct,
		"blank as %20":         records(s3Record("ObjectCreated:Put", "a%20b%2Bc/d%3D1.gz", "0123", more)),
		"SNS":                  sns(direct),
		"SNS twice":            sns(sns(direct)),
		"MinIO":                minio,
		"MinIO, SNS":           sns(minio),
		"EventBridge":          bridge,
		"EventBridge, SNS":     sns(bridge),
		"EventBridge, no type": strings.Replace(bridge, `"detail-type":"Object Created",`, "", 1),
		"SQS by Lambda":        `{"Records":[{"eventSource":"aws:sqs","body":` + quoted(direct) + `}]}`,
		"SNS by Lambda":        `{"Records":[{"EventSource":"aws:sns","Sns":{"Message":` + quoted(direct) + `}}]}`,
		"unknown keys":         `{"message":{"a":1},"event":[],"Type":7,` + direct[1:],
	} {
		t.Run(name, func(t *testing.T) {
			m, err := notification.Parse([]byte(body))
			require.NoError(t, err)
			require.Len(t, m.Events, 1)
			got := m.Events[0]
			require.WithinDuration(t, want.Time, got.Time, time.Second)
			got.Time = want.Time
			require.Empty(t, cmp.Diff(want, got))
			require.True(t, got.Creates())
			// As a listing would name it: the ETag quoted, the key as it is.
			require.Equal(t, identity.ObjectID("aws", "logs", "a b+c/d=1.gz", `"0123"`), identity.ObjectID("aws", got.Bucket, got.Key, got.ETag))
		})
	}
}

func TestOtherEvents(t *testing.T) {
	for body, want := range map[string]string{
		records(s3Record("ObjectRemoved:Delete", "k", "", "")):                                    "ObjectRemoved:Delete",
		records(s3Record("s3:ObjectRemoved:DeleteMarkerCreated", "k", "", "")):                    "ObjectRemoved:DeleteMarkerCreated",
		strings.Replace(bridge, "Object Created", "Object Deleted", 1):                            "ObjectRemoved:Delete",
		strings.Replace(bridge, "Object Created", "Object Storage Class Changed", 1):              "ObjectStorageClassChanged",
		strings.Replace(bridge, "Object Created", "Object Restore Completed", 1):                  "ObjectRestore:Completed",
		strings.Replace(bridge, "PutObject", "CompleteMultipartUpload", 1):                        "ObjectCreated:CompleteMultipartUpload",
		strings.Replace(bridge, "PutObject", "Something New", 1):                                  "ObjectCreated:SomethingNew",
		records(s3Record("ObjectCreated:CompleteMultipartUpload", "k", "0123-2", `,"size":"12"`)): "ObjectCreated:CompleteMultipartUpload",
	} {
		m, err := notification.Parse([]byte(body))
		require.NoError(t, err, body)
		require.Len(t, m.Events, 1, body)
		require.Equal(t, want, m.Events[0].Name)
		require.Equal(t, strings.HasPrefix(want, "ObjectCreated:"), m.Events[0].Creates())
	}
}

func TestSeveralRecordsAndTests(t *testing.T) {
	m, err := notification.Parse([]byte(records(s3Record("ObjectCreated:Put", "a", "1", ""), s3Record("ObjectCreated:Copy", "b", "2", `,"versionId":"null"`))))
	require.NoError(t, err)
	require.Len(t, m.Events, 2)
	require.Equal(t, "", m.Events[1].Version)
	require.EqualValues(t, -1, m.Events[1].Size)

	const test = `{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-02-03T04:05:06.510Z","Bucket":"logs","RequestId":"1","HostId":"2"}`
	for _, body := range []string{test, sns(test)} {
		m, err := notification.Parse([]byte(body))
		require.NoError(t, err)
		require.Equal(t, notification.Message{Tests: 1}, m)
	}
	m, err = notification.Parse([]byte(`{"Records":[]}`))
	require.NoError(t, err)
	require.Empty(t, m.Events)
}

func TestWhatIsNoNotification(t *testing.T) {
	deep := records(s3Record("ObjectCreated:Put", "a", "1", ""))
	for range 5 {
		deep = sns(deep)
	}
	for name, body := range map[string]string{
		"empty":                 ``,
		"not JSON":              `hello`,
		"a number":              `7`,
		"an array":              `[]`,
		"an object":             `{}`,
		"a confirmation":        `{"Type":"SubscriptionConfirmation","Token":"x","Message":"confirm","SubscribeURL":"https://sns.example/?Action=ConfirmSubscription"}`,
		"of another service":    `{"Records":[{"eventSource":"aws:ses","ses":{}}]}`,
		"EventBridge, others":   strings.Replace(bridge, "aws.s3", "aws.ec2", 1),
		"EventBridge, no key":   strings.Replace(bridge, `"key":"a b+c/d=1.gz",`, "", 1),
		"SNS of something else": sns(`hello`),
		"SNS without message":   `{"Type":"Notification"}`,
		"wrapped too often":     deep,
		"bad encoding":          records(s3Record("ObjectCreated:Put", "a%zz", "1", "")),
		"key not UTF-8":         records(s3Record("ObjectCreated:Put", "a%ff", "1", "")),
		"no bucket":             `{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{"object":{"key":"a"}}}]}`,
		"records of no kind":    `{"Records":[1,"a",null]}`,
		"lambda of nothing":     `{"Records":[{"eventSource":"aws:sqs","body":"x"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			m, err := notification.Parse([]byte(body))
			require.ErrorIs(t, err, notification.ErrNone)
			require.Empty(t, m.Events)
		})
	}
	// What can be read is not lost with what can't.
	m, err := notification.Parse([]byte(`{"Records":[7,` + s3Record("ObjectCreated:Put", "a", "1", "") + `]}`))
	require.ErrorIs(t, err, notification.ErrNone)
	require.ErrorContains(t, err, "record 0")
	require.Len(t, m.Events, 1)
}

// However many records of a body are none, those after them are read, and the
// text of the error stays short.
func TestNoNumberOfBadRecordsHidesAGoodOne(t *testing.T) {
	var all []string
	for i := range 200 {
		all = append(all, `{"eventSource":"aws:ses"}`)
		if i%50 == 49 {
			all = append(all, s3Record("ObjectCreated:Put", fmt.Sprintf("k%d", i), "1", ""))
		}
	}
	for name, body := range map[string]string{"direct": records(all...), "SNS": sns(records(all...))} {
		m, err := notification.Parse([]byte(body))
		require.ErrorIs(t, err, notification.ErrNone, name)
		require.ErrorContains(t, err, "record 4: ", name)
		require.ErrorContains(t, err, "195 more records", name)
		require.Less(t, len(err.Error()), 1000, name)
		var keys []string
		for _, event := range m.Events {
			keys = append(keys, event.Key)
		}
		require.Equal(t, []string{"k49", "k99", "k149", "k199"}, keys, name)
	}
}

func TestCorpus(t *testing.T) {
	folder := corpus(t)
	for file, want := range map[string][]string{ // keys
		"s3_to_sqs_direct.json":                                       {"my-bucket/path/to/myfile.log.gz"},
		"s3_to_sns_to_sqs.json":                                       {"my-sns-bucket/path/to/testlogs.log.gz"},
		"derived_sns_raw_delivery.json":                               {"my-sns-bucket/path/to/testlogs.log.gz"},
		"eventbridge_object_created_versioned.json":                   {"DOC-EXAMPLE-BUCKET1/example-key"},
		"powertools_s3EventBridgeNotificationObjectCreatedEvent.json": {"example-bucket/IMG_m7fzo3.jpg"},
		"lambda_go_s3-event.json":                                     {"sourcebucket/Happy Face.jpg"},
		"powertools_s3EventDecodedKey.json":                           {"sourcebucket/Happy Face.jpg"},
		"powertools_s3Event.json":                                     {"lambda-artifacts-deafc19498e3f2df/b21b84d653bb07b05b1e6b33684dc11b"},
		"powertools_s3SqsEvent.json":                                  {"xxx/test.pdf"},
		"minio_object_created_put.json":                               {"test-bucket/image.jpg"},
		"s3_testevent.json":                                           {},
		"powertools_snsSqsEvent.json":                                 nil,
		"sns_notificationMessage.json":                                nil,
		"sns_notificationMessage-complexObject.json":                  nil,
		"sns_notificationMessage-complexObject-UTF-8-Check.json":      nil,
	} {
		t.Run(file, func(t *testing.T) {
			body, err := os.ReadFile(filepath.Join(folder, file))
			require.NoError(t, err)
			m, err := notification.Parse(body)
			if want == nil {
				require.ErrorIs(t, err, notification.ErrNone)
				return
			}
			require.NoError(t, err)
			keys := []string{}
			for _, event := range m.Events {
				keys = append(keys, event.Bucket+"/"+event.Key)
				require.True(t, event.Creates())
				require.NotEmpty(t, event.ETag)
			}
			require.Equal(t, want, keys)
			require.Equal(t, len(keys) == 0, m.Tests == 1)
		})
	}
	t.Run("encoded keys", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join(folder, "constructed_url_encoded_keys.ndjson"))
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			var sample struct {
				Key  string `json:"expected_key"`
				Body string `json:"sqs_body"`
			}
			require.NoError(t, json.Unmarshal([]byte(line), &sample))
			m, err := notification.Parse([]byte(sample.Body))
			require.NoError(t, err)
			require.Len(t, m.Events, 1)
			require.Equal(t, sample.Key, m.Events[0].Key)
			require.Empty(t, m.Events[0].Version)
		}
	})
	t.Run("recorded from AWS", func(t *testing.T) {
		// Each recorded message is one record, with some values masked.
		text, err := os.ReadFile(filepath.Join(folder, "localstack_test_s3_notifications_sqs.snapshot.json"))
		require.NoError(t, err)
		kinds := map[string]int{}
		eachRecord(t, text, func(record json.RawMessage) {
			m, err := notification.Parse([]byte(records(string(record))))
			require.NoError(t, err, string(record))
			for _, event := range m.Events {
				kinds[event.Name]++
				require.False(t, event.Creates() && event.ETag == "", string(record))
			}
		})
		for _, name := range []string{"ObjectCreated:Put", "ObjectCreated:Copy", "ObjectCreated:CompleteMultipartUpload", "ObjectRemoved:Delete"} {
			require.NotZero(t, kinds[name], "%s among %v", name, kinds)
		}
	})
}

// eachRecord finds whatever looks like a record, however deep.
func eachRecord(t *testing.T, text json.RawMessage, yield func(json.RawMessage)) {
	t.Helper()
	var object map[string]json.RawMessage
	var list []json.RawMessage
	switch {
	case json.Unmarshal(text, &object) == nil:
		if object["eventSource"] != nil && object["s3"] != nil {
			yield(text)
			return
		}
		for _, value := range object {
			eachRecord(t, value, yield)
		}
	case json.Unmarshal(text, &list) == nil:
		for _, value := range list {
			eachRecord(t, value, yield)
		}
	}
}

func corpus(t testing.TB) string {
	t.Helper()
	folder := os.Getenv("AUDITSTREAM_CORPUS")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "..", "shared", "corpus")
	}
	folder = filepath.Join(folder, "s3_notifications")
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("the corpus of real notifications is not at %s; set AUDITSTREAM_CORPUS to run this test", folder)
	}
	return folder
}

func FuzzParse(f *testing.F) {
	direct := records(s3Record("ObjectCreated:Put", "a+b%2Bc/d", "0123", `,"size":12,"versionId":"v1"`))
	for _, body := range []string{
		direct, sns(direct), bridge, sns(bridge), `{"Event":"s3:TestEvent"}`, `{"Records":[{"body":` + quoted(direct) + `}]}`,
		`{"Type":"SubscriptionConfirmation"}`, `{"Records":[{"Sns":{"Message":"{}"}},7]}`, ``,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := notification.Parse(body)
		if err != nil {
			require.ErrorIs(t, err, notification.ErrNone)
		}
		for _, event := range m.Events {
			require.NotEmpty(t, event.Key)
			require.NotEmpty(t, event.Bucket)
			require.False(t, strings.HasPrefix(event.Name, "s3:"))
			require.GreaterOrEqual(t, event.Size, int64(-1))
		}
		// One more envelope changes nothing, as long as it may be opened.
		if wrapped, wrappedErr := notification.Parse([]byte(sns(string(body)))); err == nil && wrappedErr == nil && utf8.Valid(body) {
			require.Equal(t, m, wrapped)
		}
	})
}
