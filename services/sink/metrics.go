package sink

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditstream/auditstream/topics"
)

// Label values.
const (
	outcomeProven    = "proven"    // acknowledged, no duplicate
	outcomeDuplicate = "duplicate" // acknowledged, but a block was dropped
	outcomeNotSent   = "not_sent"
	outcomeUnknown   = "unknown"

	provenPresent = "present"
	provenMissing = "missing"

	failedTransient = "transient" // passes by itself
	failedMending   = "mending"   // someone has to change something
)

// metrics of the sink. Every one begins at zero.
type metrics struct {
	rows            prometheus.Counter
	batches         *prometheus.CounterVec
	insertSeconds   *prometheus.HistogramVec
	proven          *prometheus.CounterVec
	recovered       prometheus.Counter
	sessions        prometheus.Counter
	reattempts      prometheus.Counter
	duplicates      prometheus.Counter
	failures        *prometheus.CounterVec
	deadLetters     *prometheus.CounterVec
	acceptedGaps    prometheus.Counter
	acceptedRecords prometheus.Counter
	lag             *prometheus.GaugeVec
	stopped         prometheus.Gauge
	assigned        prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer, s *Service) (*metrics, error) {
	subsystem := strings.ReplaceAll(s.options.Name, "-", "_")
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "auditstream", Subsystem: subsystem, Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: "auditstream", Subsystem: subsystem, Name: name, Help: help}
	}
	m := &metrics{
		rows:    prometheus.NewCounter(counter("rows_total", "Rows known to be in the table, by committed batches.")),
		batches: prometheus.NewCounterVec(counter("batches_total", "Batches committed, by what closed them."), []string{"closed"}),
		insertSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "auditstream", Subsystem: subsystem, Name: "insert_seconds", Help: "Time of one INSERT, by outcome.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 15),
		}, []string{"outcome"}),
		proven:          prometheus.NewCounterVec(counter("looked_up_rows_total", "Rows looked up by id in the table, by what was found."), []string{"found"}),
		recovered:       prometheus.NewCounter(counter("recovered_intents_total", "Intents found open at assignment and settled.")),
		sessions:        prometheus.NewCounter(counter("failed_sessions_total", "Kafka sessions given up for a new one, since the group had thrown the member out.")),
		reattempts:      prometheus.NewCounter(counter("reattempts_total", "Times that rows went in under a further token, since the server had dropped them under the one before.")),
		duplicates:      prometheus.NewCounter(counter("duplicate_blocks_total", "Blocks that the server dropped as duplicates.")),
		failures:        prometheus.NewCounterVec(counter("failures_total", "Failed tries, by step and by whether they pass by themselves."), []string{"step", "kind"}),
		deadLetters:     prometheus.NewCounterVec(counter("dead_letters_total", "Records set aside, by reason. After a crash the same one may be set aside again."), []string{"reason"}),
		acceptedGaps:    prometheus.NewCounter(counter("accepted_gaps_total", "Ranges of records that were missing and were passed over as configured.")),
		acceptedRecords: prometheus.NewCounter(counter("accepted_gap_records_total", "Records in accepted gaps, as far as known.")),
		lag:             prometheus.NewGaugeVec(gauge("lag_records", "Offsets behind, by partition, against the last stable offset and the high watermark."), []string{"partition", "against"}),
		stopped:         prometheus.NewGauge(gauge("stopped_partitions", "Assigned partitions that stand still until someone acts.")),
		assigned:        prometheus.NewGauge(gauge("assigned_partitions", "Partitions assigned to this instance.")),
	}
	for _, closed := range []string{closedByRows, closedByBytes, closedByAge, closedByEnd, closedByRecovery} {
		m.batches.WithLabelValues(closed)
	}
	for _, outcome := range []string{outcomeProven, outcomeDuplicate, outcomeNotSent, outcomeUnknown} {
		m.insertSeconds.WithLabelValues(outcome)
	}
	for _, found := range []string{provenPresent, provenMissing} {
		m.proven.WithLabelValues(found)
	}
	m.deadLetters.WithLabelValues(string(topics.ReasonMalformedRecord))
	for _, step := range []string{"insert", "settle", "commit", "set aside"} {
		m.failures.WithLabelValues(step, failedTransient)
		m.failures.WithLabelValues(step, failedMending)
	}
	// One process may run a sink for each of several topics.
	registry = prometheus.WrapRegistererWith(prometheus.Labels{"topic": s.topic}, registry)
	var problems []error
	for _, collector := range []prometheus.Collector{
		m.rows, m.batches, m.insertSeconds, m.proven, m.recovered, m.sessions, m.reattempts, m.duplicates, m.failures, m.deadLetters,
		m.acceptedGaps, m.acceptedRecords, m.lag, m.stopped, m.assigned,
		prometheus.NewGaugeFunc(gauge("buffered_bytes", "Records held in memory, from the poll to the commit."), s.bufferedBytes),
		prometheus.NewGaugeFunc(gauge("oldest_open_intent_seconds", "Age of the oldest intent that is recorded and not yet committed past; 0 without one."),
			func() float64 { return s.oldestIntent().Seconds() }),
	} {
		problems = append(problems, registry.Register(collector))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

// oldestIntent is the age of the oldest open intent of this instance.
func (s *Service) oldestIntent() time.Duration {
	var oldest time.Duration
	for _, w := range s.assigned() {
		if at := w.intentAt.Load(); at > 0 {
			oldest = max(oldest, s.now().Sub(time.Unix(at, 0)))
		}
	}
	return oldest
}

func (s *Service) bufferedBytes() float64 {
	var bytes int64
	for _, shard := range s.shards {
		if f := shard.flow.Load(); f != nil {
			bytes += f.bytes()
		}
	}
	return float64(bytes)
}
