package kafka

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type transactionMetrics struct {
	committed, aborted prometheus.Counter
	seconds            prometheus.Histogram
	records            prometheus.Counter
	sessions           prometheus.Counter
	stopped            prometheus.Gauge
	acceptedGaps       prometheus.Counter
	acceptedRecords    prometheus.Counter
	lag                *prometheus.GaugeVec
	open               prometheus.Gauge
}

func newTransactionMetrics(stage string, registry prometheus.Registerer) (*transactionMetrics, error) {
	name := func(rest string) string { return "auditstream_" + stage + "_" + rest }
	outcomes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: name("transactions_total"),
		Help: "Transactions ended, by outcome.",
	}, []string{"outcome"})
	m := &transactionMetrics{
		committed: outcomes.WithLabelValues("committed"),
		aborted:   outcomes.WithLabelValues("aborted"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    name("transaction_seconds"),
			Help:    "From the first record of a transaction to its end.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 13),
		}),
		records: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("consumed_records_total"),
			Help: "Records consumed by committed transactions.",
		}),
		sessions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("failed_sessions_total"),
			Help: "Kafka sessions given up for a new one after an error.",
		}),
		stopped: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("stopped_partitions"),
			Help: "Assigned partitions that stand still because records are missing.",
		}),
		acceptedGaps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("accepted_gaps_total"),
			Help: "Gaps that were passed over because the configuration accepts it.",
		}),
		acceptedRecords: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("accepted_gap_records_total"),
			Help: "Records missing in the gaps that were passed over.",
		}),
		lag:  NewLagGauge(stage),
		open: newOpenTransactionGauge(stage),
	}
	if registry == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{
		outcomes, m.seconds, m.records, m.sessions, m.stopped, m.acceptedGaps, m.acceptedRecords, m.lag, m.open,
	} {
		if err := registry.Register(collector); err != nil {
			return nil, fmt.Errorf("register metrics of %s: %w", stage, err)
		}
	}
	return m, nil
}
