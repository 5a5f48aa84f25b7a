package intake

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/auditstream/auditstream/pkg/access"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/delay"
)

const (
	// messagesAtOnce is as many as SQS gives and deletes with one request.
	messagesAtOnce = 10
	// finishLimit bounds the deletion of what is done with when the work ends.
	finishLimit = 5 * time.Second
	// answerMargin is how much later than promised a long poll may answer.
	answerMargin = 10 * time.Second
	// pollPause keeps short polling of an empty queue from spinning.
	pollPause = time.Second
	// longestQueueBackoff is short, since each message by itself rests for the
	// visibility timeout.
	longestQueueBackoff = 5 * time.Second
)

// queueService is what is asked of SQS; *sqs.Client is one.
type queueService interface {
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
}

// QueuesOptions of Queues.
type QueuesOptions struct {
	Sources     []config.Source // those without a queue are left out
	Identities  *access.Identities
	Store       Stater
	Announcer   *Announcer
	DeadLetters *DeadLetters
	Metrics     *Metrics
	Health      Health
	Logger      *slog.Logger
}

// Queues announces the objects that notifications in SQS queues tell of. Any
// number of instances may receive from one queue.
type Queues struct {
	queues []*queue
}

// queue is one of them, with every source that names it.
type queue struct {
	opts     *QueuesOptions
	name     string
	settings config.Queue
	service  queueService
	router   *router
	source   string // when it is the only one
	metrics  *queueMetrics
	ages     ages

	// refused is the last deletion that failed, if none has succeeded since.
	refused atomic.Pointer[refusal]

	strange   sync.Map // buckets of no source that were warned of
	strangers atomic.Int64
}

// NewQueues makes one receiver for each queue. It sends nothing.
func NewQueues(opts QueuesOptions) *Queues {
	byURL := make(map[string][]config.Source)
	var urls []string
	for i := range opts.Sources {
		at := opts.Sources[i].Queue.URL
		if at == "" {
			continue
		}
		if byURL[at] == nil {
			urls = append(urls, at)
		}
		byURL[at] = append(byURL[at], opts.Sources[i])
	}
	all := &Queues{}
	for _, at := range urls {
		sources := byURL[at]
		q := &queue{
			opts: &opts, name: queueName(at), settings: sources[0].Queue, router: newRouter(sources), metrics: opts.Metrics.queues,
			service: NewQueueClient(opts.Identities, &sources[0]),
		}
		if len(sources) == 1 {
			q.source = sources[0].ID
		}
		q.metrics.begin(q.name)
		all.queues = append(all.queues, q)
	}
	return all
}

// NewQueueClient is a client of a source's queue.
func NewQueueClient(identities *access.Identities, source *config.Source) *sqs.Client {
	settings := &source.Queue
	return sqs.NewFromConfig(identities.Config(source.QueueRole(), settings.QueueRegion()), func(o *sqs.Options) {
		o.HTTPClient = identities.Patient(settings.WaitTime + answerMargin)
		if endpoint := queueEndpoint(settings); endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
	})
}

// queueEndpoint is the one given, or the host of a URL that is not of AWS.
func queueEndpoint(settings *config.Queue) string {
	if settings.Endpoint != "" {
		return settings.Endpoint
	}
	byURL := config.Queue{URL: settings.URL}
	if byURL.QueueRegion() != "" {
		return ""
	}
	parsed, err := url.Parse(settings.URL)
	if err != nil {
		return ""
	}
	return parsed.Scheme + "://" + parsed.Host
}

// queueName is the URL without what says nothing: the host and the account are
// part of it, since names alone may be doubled.
func queueName(at string) string {
	parsed, err := url.Parse(at)
	if err != nil {
		return at
	}
	return strings.Trim(parsed.Host+parsed.Path, "/")
}

// Run receives until ctx is done.
func (q *Queues) Run(ctx context.Context) error {
	var receivers sync.WaitGroup
	for _, queue := range q.queues {
		for range max(queue.settings.Concurrency, 1) {
			receivers.Go(func() { queue.receive(ctx) })
		}
		receivers.Go(func() { queue.watch(ctx) })
	}
	receivers.Wait()
	return nil
}

// receive is one of the queue's receivers: it takes messages, sees to it that
// their objects are announced, and deletes them. Whatever was not done with
// comes again after the visibility timeout, to this instance or another.
func (q *queue) receive(ctx context.Context) {
	failed := 0
	for ctx.Err() == nil {
		messages, err := q.take(ctx)
		done := 0
		if err == nil && len(messages) > 0 {
			done, err = q.work(ctx, messages)
		}
		if ctx.Err() != nil {
			return
		}
		if done > 0 {
			// Those that are kept were logged, and come again. They don't hold up the
			// others, which may be of another source.
			err = nil
		}
		reported := err
		if reported == nil {
			reported = q.refusal()
		}
		q.opts.Health.Report("queue "+q.name, reported)
		switch {
		case err != nil:
			q.opts.Logger.Debug("queue failed", "queue", q.name, "error", err)
			delay.For(ctx, min(backoff(failed), longestQueueBackoff))
			failed++
		case len(messages) == 0 && q.settings.WaitTime < pollPause:
			failed = 0
			delay.For(ctx, pollPause)
		default:
			failed = 0
		}
	}
}

// refusal of a deletion. What was not deleted comes again after the visibility
// timeout; until then, receiving nothing does not mean that all is well.
type refusal struct {
	err   error
	until time.Time
}

// refusal is the error that still holds. It is over by itself when the messages
// didn't come again, as another instance has deleted them.
func (q *queue) refusal() error {
	if last := q.refused.Load(); last != nil && time.Now().Before(last.until) {
		return last.err
	}
	return nil
}

func (q *queue) take(ctx context.Context) ([]types.Message, error) {
	out, err := q.service.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl:            aws.String(q.settings.URL),
		MaxNumberOfMessages: messagesAtOnce,
		WaitTimeSeconds:     int32(q.settings.WaitTime / time.Second),          //nolint:gosec // at most 20
		VisibilityTimeout:   int32(q.settings.VisibilityTimeout / time.Second), //nolint:gosec // at most half a day
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{
			types.MessageSystemAttributeNameSentTimestamp, types.MessageSystemAttributeNameApproximateReceiveCount,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("receive from %s: %w", q.settings.URL, err)
	}
	return out.Messages, nil
}

// work announces what the messages tell of and deletes those of which all is
// durable. It gives the number of those, and the error of one that is kept.
func (q *queue) work(ctx context.Context, messages []types.Message) (int, error) {
	under := make([]*delivery, len(messages))
	for i := range messages {
		under[i] = q.begin(ctx, &messages[i])
	}
	var first error
	var done []types.DeleteMessageBatchRequestEntry
	for i, d := range under {
		outcome := d.outcome
		if err := d.waiting.Wait(); err != nil {
			outcome = messageKept
			if ctx.Err() == nil {
				q.opts.Logger.Warn("a message is kept in its queue, to come again", "queue", q.name,
					"message", aws.ToString(messages[i].MessageId), "error", err)
			}
			if first == nil {
				first = err
			}
		} else {
			done = append(done, types.DeleteMessageBatchRequestEntry{
				Id: aws.String(fmt.Sprintf("m%d", i)), ReceiptHandle: messages[i].ReceiptHandle,
			})
		}
		q.metrics.messages.WithLabelValues(q.name, outcome).Inc()
	}
	if err := q.remove(ctx, done); err != nil {
		q.refused.Store(&refusal{err, time.Now().Add(2 * q.settings.VisibilityTimeout)})
		return 0, err
	}
	if len(done) > 0 {
		q.refused.Store(nil)
	}
	return len(done), first
}

// remove deletes messages from the queue, also when the work is to end: each
// one deleted is one that need not come again. One that can't be is harmless,
// since its objects are skipped as announced before.
func (q *queue) remove(ctx context.Context, done []types.DeleteMessageBatchRequestEntry) error {
	if len(done) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishLimit)
	defer cancel()
	out, err := q.service.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: aws.String(q.settings.URL), Entries: done})
	if err != nil {
		q.metrics.undeleted.WithLabelValues(q.name).Add(float64(len(done)))
		return fmt.Errorf("delete %d messages from %s: %w", len(done), q.settings.URL, err)
	}
	if len(out.Failed) > 0 {
		q.metrics.undeleted.WithLabelValues(q.name).Add(float64(len(out.Failed)))
		return fmt.Errorf("delete %d messages from %s: %d were refused: %s: %s", len(done), q.settings.URL, len(out.Failed),
			aws.ToString(out.Failed[0].Code), aws.ToString(out.Failed[0].Message))
	}
	return nil
}
