package kafka

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/delay"
)

// OpenTransaction is one that holds up readers of committed records.
type OpenTransaction struct {
	ID    string // transactional id: a group's name, "-", and an instance's
	State string
	Since time.Time // zero: not known
}

// openStates are those of transactions that are not ended.
var openStates = []string{"Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"}

// OpenTransactions asks the brokers for transactions of instances of the groups
// that are not ended. Brokers may not know the question, or not answer it to us.
func OpenTransactions(ctx context.Context, admin *kadm.Client, groups ...string) ([]OpenTransaction, error) {
	listed, err := admin.ListTransactions(ctx, nil, openStates)
	if err != nil {
		return nil, fmt.Errorf("list open transactions: %w", err)
	}
	var ids []string
	for id := range listed {
		for _, group := range groups {
			if strings.HasPrefix(id, group+"-") {
				ids = append(ids, id)
				break
			}
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	described, err := admin.DescribeTransactions(ctx, ids...)
	if err != nil {
		return nil, fmt.Errorf("describe open transactions: %w", err)
	}
	open := make([]OpenTransaction, 0, len(ids))
	for _, id := range ids {
		one := OpenTransaction{ID: id, State: listed[id].State}
		if detail, known := described[id]; known && detail.Err == nil && detail.StartTimestamp > 0 {
			one.State, one.Since = detail.State, time.UnixMilli(detail.StartTimestamp).UTC()
		}
		open = append(open, one)
	}
	return open, nil
}

func newOpenTransactionGauge(stage string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "auditstream_" + stage + "_oldest_open_transaction_seconds",
		Help: "Age of the oldest transaction of the group's instances that is not ended; 0 without one, NaN where the brokers don't tell.",
	})
}

// watchOpenTransactions keeps the gauge up to date until ctx is done.
func watchOpenTransactions(ctx context.Context, client *kgo.Client, group string, gauge prometheus.Gauge) {
	admin := kadm.NewClient(client)
	for ctx.Err() == nil {
		open, err := OpenTransactions(ctx, admin, group)
		age := math.NaN()
		if err == nil {
			age = 0
			for _, one := range open {
				if !one.Since.IsZero() {
					age = max(age, time.Since(one.Since).Seconds())
				}
			}
		}
		gauge.Set(age)
		delay.For(ctx, lagInterval)
	}
}
