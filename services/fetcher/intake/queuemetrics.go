package intake

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// What became of a message.
const (
	messageAnnounced = "announced"  // its objects are in the topic objects
	messageIgnored   = "ignored"    // tells of nothing that is to be read
	messageTest      = "test"       // s3:TestEvent
	messageDead      = "deadletter" // not a notification
	messageKept      = "kept"       // something failed: it comes again
)

const (
	bytesAnnounced = "announced"
	bytesSkipped   = "skipped"
)

// queueMetrics are those of all queues of the instance.
type queueMetrics struct {
	messages  *prometheus.CounterVec // by queue and outcome
	again     *prometheus.CounterVec // by queue
	undeleted *prometheus.CounterVec
	depth     *prometheus.GaugeVec // by queue and state
	oldest    *prometheus.GaugeVec
	bytes     *prometheus.CounterVec // by outcome
	seconds   prometheus.Histogram
}

func newQueueMetrics(registry prometheus.Registerer) (*queueMetrics, error) {
	const namespace, subsystem = "auditstream", "fetcher"
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
	}
	m := &queueMetrics{
		messages:  counter("queue_messages_total", "Messages received from a queue, by what became of them.", "queue", "outcome"),
		again:     counter("queue_redeliveries_total", "Messages received that had been received before.", "queue"),
		undeleted: counter("queue_undeleted_total", "Messages done with that could not be deleted, and come again.", "queue"),
		depth:     gauge("queue_depth_messages", "Messages in a queue, approximately, by state.", "queue", "state"),
		oldest:    gauge("queue_oldest_seconds", "Age of the oldest message lately received from a queue; it grows while none is received that is there.", "queue"),
		bytes:     counter("notified_bytes_total", "Bytes of the objects told of, as stored, by outcome.", "outcome"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Subsystem: subsystem,
			Name: "event_to_announced_seconds", Help: "From an object's event to its announcement in the topic objects.",
			Buckets: prometheus.ExponentialBuckets(0.1, 2, 18)}),
	}
	for _, outcome := range []string{bytesAnnounced, bytesSkipped} {
		m.bytes.WithLabelValues(outcome).Add(0)
	}
	if registry == nil {
		return m, nil
	}
	var problems []error
	for _, collector := range []prometheus.Collector{m.messages, m.again, m.undeleted, m.depth, m.oldest, m.bytes, m.seconds} {
		problems = append(problems, registry.Register(collector))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("queue metrics: %w", err)
	}
	return m, nil
}

// begin sets every label value of a queue to zero.
func (m *queueMetrics) begin(queue string) {
	for _, outcome := range []string{messageAnnounced, messageIgnored, messageTest, messageDead, messageKept} {
		m.messages.WithLabelValues(queue, outcome).Add(0)
	}
	m.again.WithLabelValues(queue).Add(0)
	m.undeleted.WithLabelValues(queue).Add(0)
	for state := range depths {
		m.depth.WithLabelValues(queue, state).Set(0)
	}
	m.oldest.WithLabelValues(queue).Set(0)
}
