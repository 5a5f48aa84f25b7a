package intake

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/topics"
)

// Stage names the fetcher in dead letters.
const Stage = "fetcher"

// DeadLetters writes to the topic `deadletter` what an intake can't make sense of.
type DeadLetters struct {
	client *kgo.Client
	topic  string
}

// NewDeadLetters writes with an idempotent client that waits for all replicas.
func NewDeadLetters(client *kgo.Client, topic string) *DeadLetters {
	return &DeadLetters{client: client, topic: topic}
}

// SetAside produces the letter and calls done once it is durable, or can't
// become so.
func (d *DeadLetters) SetAside(ctx context.Context, letter topics.DeadLetterRecord, done func(error)) {
	letter.Stage = Stage
	d.client.Produce(ctx, letter.Record(d.topic), func(_ *kgo.Record, err error) {
		if err != nil {
			err = fmt.Errorf("set aside as %s: %w", letter.Reason, err)
		}
		done(err)
	})
}
