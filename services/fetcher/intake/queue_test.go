package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/services/fetcher/notification"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

func TestMain(m *testing.M) { servers.Main(m) }

func queueSource(id, bucket, prefix string) config.Source {
	s := config.DefaultSource()
	s.ID, s.Bucket, s.Prefix, s.Queue.URL = id, bucket, prefix, "https://sqs.eu-central-1.amazonaws.com/111122223333/q"
	return s
}

func TestEachObjectHasOneSource(t *testing.T) {
	gz, all := queueSource("gz", "logs", "a/"), queueSource("b", "logs", "b/")
	gz.Suffix = ".gz"
	all.Queue.Events = []string{"ObjectCreated:Put"}
	r := newRouter([]config.Source{gz, all, queueSource("other", "more", "")})
	for _, test := range []struct{ event, bucket, key, source, skipped string }{
		{"ObjectCreated:Put", "logs", "a/x.gz", "gz", ""},
		{"ObjectCreated:Copy", "logs", "a/x.gz", "gz", ""},
		{"ObjectCreated:Put", "logs", "b/x", "b", ""},
		{"ObjectCreated:Put", "more", "a/x.gz", "other", ""},
		{"ObjectCreated:Copy", "logs", "b/x", "", skippedEvent},
		{"ObjectRemoved:Delete", "logs", "a/x.gz", "", skippedEvent},
		{"ObjectCreated:Put", "logs", "a/x.json", "", skippedFiltered},
		{"ObjectCreated:Put", "logs", "c", "", skippedFiltered},
		{"ObjectCreated:Put", "unknown", "a/x.gz", "", skippedBucket},
		{"ObjectCreated:Put", "more", "folder/", "other", ""}, // with content
	} {
		source, skipped := r.find(&notification.Event{Name: test.event, Bucket: test.bucket, Key: test.key, Size: 1})
		require.Equal(t, test.skipped, skipped, "%+v", test)
		if skipped == "" {
			require.Equal(t, test.source, source.ID)
		}
	}
	_, skipped := r.find(&notification.Event{Name: "ObjectCreated:Put", Bucket: "more", Key: "k", Size: 0, ETag: etagOfNothing})
	require.Equal(t, skippedEmpty, skipped)
	_, skipped = r.find(&notification.Event{Name: "ObjectCreated:Put", Bucket: "more", Key: "folder/", Size: 0, ETag: etagOfNothing})
	require.Equal(t, skippedDirectory, skipped)
	_, skipped = r.find(&notification.Event{Name: "ObjectCreated:CompleteMultipartUpload", Bucket: "more", Key: "k", Size: 0, ETag: "1-2"})
	require.Empty(t, skipped) // for the store to say
	_, skipped = r.find(&notification.Event{Name: "ObjectCreated:Put", Bucket: "more", Key: "k", Size: -1})
	require.Empty(t, skipped) // not told, so not known to be empty
}

func TestAgeOfTheOldestMessage(t *testing.T) {
	var a ages
	now := time.Unix(1_700_000_000, 0)
	require.Zero(t, a.oldest(now, true))
	a.received(now.Add(-time.Minute))
	a.received(now.Add(-time.Hour))
	require.Equal(t, time.Hour, a.oldest(now, false))
	// None is received, and there are some: they grow older.
	require.Equal(t, time.Hour+time.Minute, a.oldest(now.Add(time.Minute), false))
	a.received(now)
	require.Equal(t, time.Minute, a.oldest(now.Add(time.Minute), true))
	require.Zero(t, a.oldest(now.Add(2*time.Minute), true))
}

// fakeQueue hands out its messages again and again until they are deleted.
type fakeQueue struct {
	mu       sync.Mutex
	messages map[string]string // by receipt handle
	received int
	deleting func(handle string) error
	refuse   map[string]bool
	fired    int

	attributes map[string]string // of every message
	asked      *sqs.ReceiveMessageInput
}

func (f *fakeQueue) ReceiveMessage(ctx context.Context, asked *sqs.ReceiveMessageInput, _ ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.received++
	f.asked = asked
	out := &sqs.ReceiveMessageOutput{}
	for handle, body := range f.messages {
		out.Messages = append(out.Messages, types.Message{
			Body: aws.String(body), ReceiptHandle: aws.String(handle), MessageId: aws.String(handle), Attributes: f.attributes,
		})
	}
	return out, ctx.Err()
}

func (f *fakeQueue) DeleteMessageBatch(_ context.Context, in *sqs.DeleteMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error) {
	out := &sqs.DeleteMessageBatchOutput{}
	for _, entry := range in.Entries {
		handle := *entry.ReceiptHandle
		if err := f.deleting(handle); err != nil {
			return nil, err
		}
		f.mu.Lock()
		if f.refuse[handle] {
			f.fired++
			delete(f.refuse, handle)
			out.Failed = append(out.Failed, types.BatchResultErrorEntry{Id: entry.Id, Code: aws.String("InternalError"), Message: aws.String("later")})
		} else {
			delete(f.messages, handle)
		}
		f.mu.Unlock()
	}
	return out, nil
}

func (f *fakeQueue) GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &sqs.GetQueueAttributesOutput{Attributes: map[string]string{"ApproximateNumberOfMessages": fmt.Sprint(len(f.messages))}}, nil
}

func (f *fakeQueue) left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.messages)
}

type fakeStore map[string]error

func (s fakeStore) Stat(_ context.Context, _, key, _ string) (objectstore.Listed, error) {
	listed := objectstore.Listed{Key: key, ETag: "of-" + key, Size: 1}
	if key == "hollow" {
		listed.Size = 0
	}
	return listed, s[key]
}

type quiet struct{}

func (quiet) Report(string, error) {}

// worked takes the messages there are, and works on them without an error.
func worked(t *testing.T, q *queue) {
	t.Helper()
	messages, err := q.take(t.Context())
	require.NoError(t, err)
	_, err = q.work(t.Context(), messages)
	require.NoError(t, err)
}

// started is a queue whose service is fake, before a real broker.
func started(t *testing.T, service *fakeQueue, store Stater) (q *queue, client *kgo.Client) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(servers.Kafka(t)...), kgo.RecordDeliveryTimeout(time.Minute))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	for _, topic := range []string{"objects", "deadletter"} {
		_, err := kadm.NewClient(client).CreateTopic(t.Context(), 2, 1, nil, topic)
		require.NoError(t, err)
	}
	metrics, err := NewMetrics(prometheus.NewRegistry())
	require.NoError(t, err)
	opts := &QueuesOptions{
		Store: store, Announcer: NewAnnouncer(client, "objects", "aws", metrics), DeadLetters: NewDeadLetters(client, "deadletter"),
		Metrics: metrics, Health: quiet{}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	s := queueSource("a", "logs", "")
	s.Queue.WaitTime = time.Second
	q = &queue{opts: opts, name: "q", settings: s.Queue, service: service, router: newRouter([]config.Source{s}), metrics: metrics.queues}
	return q, client
}

// number is a counter's or gauge's.
func number(t *testing.T, metric prometheus.Metric) float64 {
	t.Helper()
	var written dto.Metric
	require.NoError(t, metric.Write(&written))
	return written.GetCounter().GetValue() + written.GetGauge().GetValue()
}

// durable counts what is in a topic.
func durable(t *testing.T, client *kgo.Client, topic string) (count int64) {
	t.Helper()
	ends, err := kadm.NewClient(client).ListEndOffsets(context.Background(), topic)
	require.NoError(t, err)
	ends.Each(func(end kadm.ListedOffset) { count += end.Offset })
	return count
}

func created(keys ...string) string {
	var records []string
	for _, key := range keys {
		key, tag, _ := strings.Cut(key, "=")
		records = append(records, fmt.Sprintf(`{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"logs"},"object":{"key":%q,"eTag":%q,"size":3}}}`, key, tag))
	}
	return `{"Records":[` + strings.Join(records, ",") + `]}`
}

// A message is deleted when its objects are in the topic and not before, also
// when the first deletion is refused; what comes again is announced again.
func TestAMessageIsDeletedAfterItsObjectsAreDurable(t *testing.T) {
	service := &fakeQueue{messages: map[string]string{"one": created("a=1", "b=2"), "two": created("c=3"), "junk": "hello"}, refuse: map[string]bool{"one": true}}
	q, client := started(t, service, fakeStore{})
	service.deleting = func(string) error {
		require.GreaterOrEqual(t, durable(t, client, "objects"), int64(3))
		require.GreaterOrEqual(t, durable(t, client, "deadletter"), int64(1))
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); q.receive(ctx) }()
	require.Eventually(t, func() bool { return service.left() == 0 }, time.Minute, 5*time.Millisecond)
	cancel()
	<-done
	require.Equal(t, 1, service.fired)
	require.EqualValues(t, 1, number(t, q.metrics.undeleted.WithLabelValues("q")))
	require.GreaterOrEqual(t, durable(t, client, "objects"), int64(5)) // those of "one" twice
}

// emptied is a queue whose messages rest once they were received.
type emptied struct {
	*fakeQueue
	polls int
	ended context.CancelFunc
}

func (e *emptied) ReceiveMessage(ctx context.Context, in *sqs.ReceiveMessageInput, _ ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	e.polls++
	switch {
	case e.polls == 1:
		return e.fakeQueue.ReceiveMessage(ctx, in)
	case e.polls == 4:
		e.ended()
	}
	return &sqs.ReceiveMessageOutput{}, nil
}

type reports struct{ errs []error }

func (r *reports) Report(_ string, err error) { r.errs = append(r.errs, err) }

// Where messages can't be deleted the queue is not well, also between their
// deliveries, when there is nothing to receive.
func TestWhatCantBeDeletedIsTold(t *testing.T) {
	denied := errors.New("denied")
	service := &emptied{fakeQueue: &fakeQueue{messages: map[string]string{"one": created("a=1")}, deleting: func(string) error { return denied }}}
	q, _ := started(t, service.fakeQueue, fakeStore{})
	health := &reports{}
	q.opts.Health, q.service = health, service
	ctx, cancel := context.WithCancel(t.Context())
	service.ended = cancel
	q.receive(ctx)
	require.Len(t, health.errs, 3)
	for _, err := range health.errs {
		require.ErrorIs(t, err, denied)
	}

	// It is over with the next one deleted, or when they don't come again.
	q.refused.Load().until = time.Now()
	require.NoError(t, q.refusal())
	q.refused.Load().until = time.Now().Add(time.Hour)
	service.deleting = func(string) error { return nil }
	service.polls = 0
	worked(t, q)
	require.NoError(t, q.refusal())
}

func TestWhatTheStoreSaysOfAnObjectWithoutETag(t *testing.T) {
	service := &fakeQueue{
		messages: map[string]string{"known": created("a"), "gone": created("b"), "denied": created("c"), "later": created("d", "e=5")},
		deleting: func(string) error { return nil },
	}
	q, client := started(t, service, fakeStore{
		"b": objectstore.ErrMissing, "c": objectstore.ErrForbidden, "d": objectstore.ErrUnavailable,
	})
	messages, err := q.take(t.Context())
	require.NoError(t, err)
	done, err := q.work(t.Context(), messages)
	require.ErrorIs(t, err, objectstore.ErrUnavailable)
	require.Equal(t, 3, done)
	require.Equal(t, 1, service.left()) // "later"
	require.Contains(t, service.messages, "later")
	require.EqualValues(t, 2, durable(t, client, "objects")) // a, and e of the message that is kept
	require.EqualValues(t, 2, durable(t, client, "deadletter"))
	for reason, want := range map[topics.Reason]float64{topics.ReasonObjectMissing: 1, topics.ReasonObjectForbidden: 1, topics.ReasonNotANotification: 0} {
		require.InDelta(t, want, number(t, q.opts.Metrics.setAside.WithLabelValues(string(reason))), 0, reason)
	}
	require.EqualValues(t, 1, number(t, q.metrics.messages.WithLabelValues("q", messageKept)))
}

// What is measured of a queue begins at zero and follows what is in it.
func TestDepthAndAgeOfAQueue(t *testing.T) {
	hourAgo := time.Now().Add(-time.Hour)
	service := &fakeQueue{
		messages:   map[string]string{"one": created("a=1"), "two": created("b=2"), "kept": created("c")},
		deleting:   func(string) error { return nil },
		attributes: map[string]string{"SentTimestamp": fmt.Sprint(hourAgo.UnixMilli()), "ApproximateReceiveCount": "2"},
	}
	q, _ := started(t, service, fakeStore{"c": objectstore.ErrUnavailable})
	q.metrics.begin(q.name)
	depth := func() float64 { return number(t, q.metrics.depth.WithLabelValues("q", "waiting")) }
	oldest := func() float64 { return number(t, q.metrics.oldest.WithLabelValues("q")) }
	for _, outcome := range []string{messageAnnounced, messageIgnored, messageTest, messageDead, messageKept} {
		require.Zero(t, number(t, q.metrics.messages.WithLabelValues("q", outcome)))
	}
	require.Zero(t, depth()+oldest()+number(t, q.metrics.depth.WithLabelValues("q", "in_flight"))+number(t, q.metrics.again.WithLabelValues("q")))

	require.NoError(t, q.look(t.Context()))
	require.InDelta(t, 3, depth(), 0)
	messages, err := q.take(t.Context())
	require.NoError(t, err)
	_, err = q.work(t.Context(), messages)
	require.ErrorIs(t, err, objectstore.ErrUnavailable)
	require.NoError(t, q.look(t.Context()))
	require.InDelta(t, 1, depth(), 0)
	require.InDelta(t, time.Hour.Seconds(), oldest(), 60)
	require.InDelta(t, 3, number(t, q.metrics.again.WithLabelValues("q")), 0)
	require.InDelta(t, 2, number(t, q.metrics.messages.WithLabelValues("q", messageAnnounced)), 0)
	require.InDelta(t, 1, number(t, q.metrics.messages.WithLabelValues("q", messageKept)), 0)
	require.InDelta(t, 6, number(t, q.metrics.bytes.WithLabelValues(bytesAnnounced)), 0)
}

// A queue is polled for as long as SQS allows, for as many messages as it gives.
func TestHowAQueueIsAsked(t *testing.T) {
	service := &fakeQueue{deleting: func(string) error { return nil }}
	q, _ := started(t, service, fakeStore{})
	defaults := config.DefaultSource().Queue
	q.settings.WaitTime, q.settings.VisibilityTimeout = defaults.WaitTime, defaults.VisibilityTimeout
	_, err := q.take(t.Context())
	require.NoError(t, err)
	require.Equal(t, q.settings.URL, *service.asked.QueueUrl)
	require.EqualValues(t, 10, service.asked.MaxNumberOfMessages)
	require.EqualValues(t, 20, service.asked.WaitTimeSeconds)
	require.EqualValues(t, 60, service.asked.VisibilityTimeout)
}

// An object of which neither the event nor the store says the ETag is announced
// as it is, for split to set it aside once.
func TestAnObjectWithoutETagIsAnnouncedToBeSetAside(t *testing.T) {
	service := &fakeQueue{messages: map[string]string{"one": created("a")}, deleting: func(string) error { return nil }}
	q, client := started(t, service, untagged{})
	worked(t, q)
	require.Zero(t, service.left())
	require.EqualValues(t, 1, durable(t, client, "objects"))
}

// untagged is a store that gives no ETags.
type untagged struct{}

func (untagged) Stat(_ context.Context, _, key, _ string) (objectstore.Listed, error) {
	return objectstore.Listed{Key: key, Size: 1}, nil
}

// Without the broker nothing is deleted; what was done with before the end is.
func TestTheEndOfTheWork(t *testing.T) {
	service := &fakeQueue{messages: map[string]string{"one": created("a=1")}, deleting: func(string) error { return nil }}
	q, client := started(t, service, fakeStore{})
	messages, err := q.take(t.Context())
	require.NoError(t, err)
	client.Close()
	done, err := q.work(t.Context(), messages)
	require.ErrorIs(t, err, kgo.ErrClientClosed)
	require.Zero(t, done)
	require.Equal(t, 1, service.left())

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, q.remove(ended, []types.DeleteMessageBatchRequestEntry{{Id: aws.String("m0"), ReceiptHandle: aws.String("one")}}))
	require.Zero(t, service.left())

	service.deleting = func(string) error { return errors.New("no") }
	require.ErrorContains(t, q.remove(ended, []types.DeleteMessageBatchRequestEntry{{Id: aws.String("m0"), ReceiptHandle: aws.String("x")}}), "delete 1 messages")
	require.NoError(t, q.look(t.Context()))
	require.EqualValues(t, 0, number(t, q.metrics.depth.WithLabelValues("q", "waiting")))
}
