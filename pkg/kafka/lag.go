package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/delay"
)

// Lag is how far a group is behind in one partition, in offsets. Aborted
// records and transaction markers count, since the broker counts them.
type Lag struct {
	Topic     string
	Partition int32
	Committed int64 // -1: the group has no offset here
	// Stable is behind the last stable offset: what a reader of committed records
	// could read now. HighWatermark includes open transactions. The difference is
	// what an open transaction holds up.
	Stable        int64
	HighWatermark int64
}

// ReadLag reads the group's lag in every partition of the topics.
func ReadLag(ctx context.Context, client *kgo.Client, group string, topics ...string) ([]Lag, error) {
	admin := kadm.NewClient(client)
	// Plain committed offsets: an open transaction is no reason to see nothing.
	committed, err := admin.FetchOffsets(ctx, group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("read the lag of group %s: %w", group, err)
	}
	list := func(what string, read func(context.Context, ...string) (kadm.ListedOffsets, error)) (kadm.ListedOffsets, error) {
		listed, err := read(ctx, topics...)
		if err == nil {
			err = listed.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("read the lag of group %s: list %s offsets of %v: %w", group, what, topics, err)
		}
		return listed, nil
	}
	starts, err := list("start", admin.ListStartOffsets)
	if err != nil {
		return nil, err
	}
	stable, err := list("stable", admin.ListCommittedOffsets)
	if err != nil {
		return nil, err
	}
	ends, err := list("end", admin.ListEndOffsets)
	if err != nil {
		return nil, err
	}
	var result []Lag
	ends.Each(func(end kadm.ListedOffset) {
		lag := Lag{Topic: end.Topic, Partition: end.Partition, Committed: -1}
		if offset, ok := committed.Lookup(end.Topic, end.Partition); ok && offset.Err == nil && offset.At >= 0 {
			lag.Committed = offset.At
		}
		from := lag.Committed
		if start, ok := starts.Lookup(end.Topic, end.Partition); ok {
			from = max(from, start.Offset)
		}
		if last, ok := stable.Lookup(end.Topic, end.Partition); ok {
			lag.Stable = max(last.Offset-from, 0)
		}
		lag.HighWatermark = max(end.Offset-from, 0)
		result = append(result, lag)
	})
	return result, nil
}

// lagInterval is how often WatchLag looks.
const lagInterval = 10 * time.Second

// NewLagGauge makes the gauge that WatchLag sets. Every instance of a group
// tells the lag of all partitions.
func NewLagGauge(stage string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "auditstream_" + stage + "_lag_records",
		Help: "Offsets between the group's and the last stable offset, or the high watermark, of its input.",
	}, []string{"topic", "partition", "against"})
}

// WatchLag keeps the gauge up to date until ctx is done. What can't be read is
// left as it was: that the brokers are away shows elsewhere.
func WatchLag(ctx context.Context, client *kgo.Client, group string, gauge *prometheus.GaugeVec, topics ...string) {
	for ctx.Err() == nil {
		if lags, err := ReadLag(ctx, client, group, topics...); err == nil {
			for _, lag := range lags {
				partition := strconv.Itoa(int(lag.Partition))
				gauge.WithLabelValues(lag.Topic, partition, "last-stable-offset").Set(float64(lag.Stable))
				gauge.WithLabelValues(lag.Topic, partition, "high-watermark").Set(float64(lag.HighWatermark))
			}
		}
		delay.For(ctx, lagInterval)
	}
}
