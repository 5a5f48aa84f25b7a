package intake

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// watchInterval is how often a queue is asked how full it is.
const watchInterval = 15 * time.Second

// depths are the states of messages, and what SQS calls their numbers.
var depths = map[string]types.QueueAttributeName{
	"waiting":   types.QueueAttributeNameApproximateNumberOfMessages,
	"in_flight": types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
	"delayed":   types.QueueAttributeNameApproximateNumberOfMessagesDelayed,
}

// watch keeps the queue's gauges. That it can't is no reason not to receive.
func (q *queue) watch(ctx context.Context) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	well := true
	for {
		err := q.look(ctx)
		if err != nil && well && ctx.Err() == nil {
			q.opts.Logger.Warn("the depth of a queue is not known (sqs:GetQueueAttributes)", "queue", q.name, "error", err)
		}
		well = err == nil
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (q *queue) look(ctx context.Context) error {
	input := &sqs.GetQueueAttributesInput{QueueUrl: aws.String(q.settings.URL)}
	for _, attribute := range depths {
		input.AttributeNames = append(input.AttributeNames, attribute)
	}
	out, err := q.service.GetQueueAttributes(ctx, input)
	if err != nil {
		q.metrics.depth.DeletePartialMatch(map[string]string{"queue": q.name}) // better none than a wrong one
		return err
	}
	total := 0
	for state, attribute := range depths {
		number, err := strconv.Atoi(out.Attributes[string(attribute)])
		if err != nil {
			continue // a service that doesn't count those
		}
		total += number
		q.metrics.depth.WithLabelValues(q.name, state).Set(float64(number))
	}
	q.metrics.oldest.WithLabelValues(q.name).Set(q.ages.oldest(time.Now(), total == 0).Seconds())
	return nil
}

// ages estimate that of a queue's oldest message, which SQS doesn't tell, by
// those that are received from it.
type ages struct {
	mu          sync.Mutex
	since, last time.Time // when the oldest of this interval, and of the last one with any, was sent
}

func (a *ages) received(sent time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since.IsZero() || sent.Before(a.since) {
		a.since = sent
	}
}

// oldest ends an interval. Messages that are there and not received have the
// age of the last ones, which grows.
func (a *ages) oldest(now time.Time, empty bool) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !a.since.IsZero():
		a.last, a.since = a.since, time.Time{}
	case empty:
		a.last = time.Time{}
	}
	if a.last.IsZero() {
		return 0
	}
	return max(now.Sub(a.last), 0)
}
