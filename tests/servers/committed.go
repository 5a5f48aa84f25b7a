package servers

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// committedPatience bounds the wait for what should be in a topic, quietTime
	// is how long it is looked for what should not.
	committedPatience = 90 * time.Second
	quietTime         = 500 * time.Millisecond
)

// Committed reads what is committed in a topic from its beginning, until enough
// says so or it takes too long, and then for a moment more.
func Committed(t testing.TB, brokers []string, topic string, enough func([]*kgo.Record) bool) []*kgo.Record {
	t.Helper()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	require.NoError(t, err)
	defer consumer.Close()
	var records []*kgo.Record
	ctx, cancel := context.WithTimeout(t.Context(), committedPatience)
	defer cancel()
	for ctx.Err() == nil && !enough(records) {
		records = append(records, consumer.PollFetches(ctx).Records()...)
	}
	quiet, cancelQuiet := context.WithTimeout(t.Context(), quietTime)
	defer cancelQuiet()
	for quiet.Err() == nil {
		records = append(records, consumer.PollFetches(quiet).Records()...)
	}
	return records
}
