package enricher

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/topics"
)

// reasons are all that a dead letter of the enricher may have.
func reasons() []topics.Reason {
	all := []topics.Reason{topics.ReasonMalformedRecord, topics.ReasonUnknownSource, topics.ReasonLineTooLong}
	for _, reason := range audit.Reasons() {
		all = append(all, topics.Reason(reason))
	}
	return all
}

// tally is what one transaction, or a part of one, did.
type tally struct {
	lines, rows       int
	bytesIn, bytesOut int
	rejected          map[topics.Reason]int
	skipped           map[audit.Skip]int
	seconds           float64
	transactions      int
}

func (t *tally) reject(reason topics.Reason) {
	if t.rejected == nil {
		t.rejected = make(map[topics.Reason]int)
	}
	t.rejected[reason]++
}

func (t *tally) skip(reason audit.Skip, count int) {
	if t.skipped == nil {
		t.skipped = make(map[audit.Skip]int)
	}
	t.skipped[reason] += count
}

func (t *tally) add(other *tally) {
	t.lines += other.lines
	t.rows += other.rows
	t.bytesIn += other.bytesIn
	t.bytesOut += other.bytesOut
	for reason, count := range other.rejected {
		if t.rejected == nil {
			t.rejected = make(map[topics.Reason]int)
		}
		t.rejected[reason] += count
	}
	for reason, count := range other.skipped {
		t.skip(reason, count)
	}
}

// metrics count committed work only: lines of an aborted transaction come again.
type metrics struct {
	lines, rows       prometheus.Counter
	bytesIn, bytesOut prometheus.Counter
	rejected, skipped *prometheus.CounterVec
	seconds           prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "auditstream_enricher_" + name, Help: help})
	}
	byReason := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "auditstream_enricher_" + name, Help: help}, []string{"reason"})
	}
	m := &metrics{
		lines:    counter("lines_total", "Raw lines processed."),
		rows:     counter("rows_total", "Rows made of them."),
		bytesIn:  counter("input_bytes_total", "Bytes of the raw lines."),
		bytesOut: counter("output_bytes_total", "Bytes of rows and dead letters as produced."),
		rejected: byReason("dead_letters_total", "Dead letters, by reason."),
		skipped:  byReason("skips_total", "Lines or parts of lines that rightly give nothing, by reason."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "auditstream_enricher_normalize_seconds",
			Help:    "Normalizing and producing the lines of one transaction, without its commit.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
	}
	for _, reason := range reasons() {
		m.rejected.WithLabelValues(string(reason))
	}
	for _, reason := range audit.Skips() {
		m.skipped.WithLabelValues(string(reason))
	}
	if registry == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{
		m.lines, m.rows, m.bytesIn, m.bytesOut, m.rejected, m.skipped, m.seconds,
	} {
		if err := registry.Register(collector); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) count(t *tally) {
	m.lines.Add(float64(t.lines))
	m.rows.Add(float64(t.rows))
	m.bytesIn.Add(float64(t.bytesIn))
	m.bytesOut.Add(float64(t.bytesOut))
	for reason, count := range t.rejected {
		m.rejected.WithLabelValues(string(reason)).Add(float64(count))
	}
	for reason, count := range t.skipped {
		m.skipped.WithLabelValues(string(reason)).Add(float64(count))
	}
	if t.transactions > 0 {
		m.seconds.Observe(t.seconds)
	}
}
