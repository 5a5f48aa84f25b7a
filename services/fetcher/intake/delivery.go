package intake

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/services/fetcher/notification"
	"github.com/auditstream/auditstream/topics"
)

// Stater tells what a listing would say of one object; *objectstore.Store is one.
type Stater interface {
	Stat(ctx context.Context, bucket, key, version string) (objectstore.Listed, error)
}

// delivery is one message under way.
type delivery struct {
	queue   *queue
	message *types.Message
	body    []byte
	sent    time.Time
	waiting UnderWay // for what it tells of to be durable
	outcome string   // when nothing fails
}

// begin reads a message and starts the announcement of its objects.
func (q *queue) begin(ctx context.Context, message *types.Message) *delivery {
	d := &delivery{queue: q, message: message, body: []byte(aws.ToString(message.Body)), outcome: messageIgnored}
	if sent, err := strconv.ParseInt(message.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64); err == nil {
		d.sent = time.UnixMilli(sent)
		q.ages.received(d.sent)
	}
	if count := message.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)]; count != "" && count != "1" {
		q.metrics.again.WithLabelValues(q.name).Inc()
	}
	told, err := notification.Parse(d.body)
	if told.Tests > 0 {
		d.outcome = messageTest
	}
	for i := range told.Events {
		d.announce(ctx, &told.Events[i])
	}
	if err != nil {
		d.setAside(ctx, topics.ReasonNotANotification, err)
	}
	return d
}

// announce one event's object, if it is a source's.
func (d *delivery) announce(ctx context.Context, event *notification.Event) {
	q := d.queue
	source, skipped := q.router.find(event)
	if skipped != "" {
		q.skip(event, skipped)
		return
	}
	found := Found{
		Source: source.ID, Bucket: event.Bucket, Key: event.Key, ETag: event.ETag, Version: event.Version,
		Region: event.Region, Size: max(event.Size, 0), LastModified: event.Time, Cause: topics.CauseNotified,
	}
	if isIncomplete(event) && !d.complete(ctx, &found) {
		return
	}
	if d.outcome != messageDead {
		d.outcome = messageAnnounced
	}
	d.waiting.Begin()
	q.opts.Announcer.Announce(ctx, found, func(err error) {
		if err == nil {
			q.metrics.bytes.WithLabelValues(bytesAnnounced).Add(float64(found.Size))
			if !event.Time.IsZero() {
				q.metrics.seconds.Observe(time.Since(event.Time).Seconds())
			}
		}
		d.waiting.End(err)
	})
}

// complete asks the store for what the event leaves out, or may have wrong.
func (d *delivery) complete(ctx context.Context, found *Found) bool {
	listed, err := d.queue.opts.Store.Stat(ctx, found.Bucket, found.Key, found.Version)
	switch {
	case err == nil:
		found.ETag, found.Size, found.LastModified = listed.ETag, max(listed.Size, 0), listed.LastModified
		if skipped := ReasonToSkip(listed.Key, listed.Size); skipped != "" {
			d.queue.opts.Metrics.skipped.WithLabelValues(skipped).Inc()
			return false
		}
		return true
	case errors.Is(err, objectstore.ErrMissing):
		d.setAside(ctx, topics.ReasonObjectMissing, err)
	case errors.Is(err, objectstore.ErrForbidden):
		d.setAside(ctx, topics.ReasonObjectForbidden, err)
	default:
		d.waiting.Begin()
		d.waiting.End(fmt.Errorf("source %s: %w", found.Source, err))
	}
	return false
}

// setAside puts the message's body into the topic `deadletter`.
func (d *delivery) setAside(ctx context.Context, reason topics.Reason, cause error) {
	letter := topics.DeadLetterRecord{
		Reason: reason, Source: d.queue.source, Bytes: d.body,
		Error: fmt.Sprintf("queue %s, message %s: %s", d.queue.settings.URL, aws.ToString(d.message.MessageId), cause),
	}
	if !d.sent.IsZero() {
		letter.ReceivedAt = d.sent.UnixMilli()
	}
	d.outcome = messageDead
	d.queue.opts.Metrics.setAside.WithLabelValues(string(reason)).Inc()
	d.waiting.Begin()
	d.queue.opts.DeadLetters.SetAside(ctx, letter, d.waiting.End)
}

// mostStrangers is how many buckets of no source are warned of.
const mostStrangers = 100

func (q *queue) skip(event *notification.Event, reason string) {
	q.opts.Metrics.skipped.WithLabelValues(reason).Inc()
	q.metrics.bytes.WithLabelValues(bytesSkipped).Add(float64(max(event.Size, 0)))
	if reason != skippedBucket {
		return
	}
	if _, warned := q.strange.LoadOrStore(event.Bucket, true); !warned {
		if q.strangers.Add(1) <= mostStrangers {
			q.opts.Logger.Warn("a queue tells of a bucket of which no source has this queue; its objects are skipped", "queue", q.name, "bucket", event.Bucket)
		}
	}
}
