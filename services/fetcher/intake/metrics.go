package intake

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditstream/auditstream/topics"
)

// Why an object that was found is not announced.
const (
	skippedEmpty     = "empty"     // has no bytes
	skippedDirectory = "directory" // its key ends in a slash, and there is nothing in it
	skippedFiltered  = "filtered"  // its key is no source's: prefix, suffix, glob
	skippedEvent     = "event"     // deleted, tagged and such: queue.events
	skippedBucket    = "bucket"    // its bucket is no source's
)

// Metrics are those of every kind of intake.
type Metrics struct{ *metrics }

type metrics struct {
	announced *prometheus.CounterVec
	skipped   *prometheus.CounterVec
	setAside  *prometheus.CounterVec
	listings  *prometheus.CounterVec
	listed    prometheus.Gauge
	spilled   prometheus.Counter
	seconds   prometheus.Histogram
	queues    *queueMetrics
}

// NewMetrics registers the metrics, each label value at zero.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	const namespace, subsystem = "auditstream", "fetcher"
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		announced: vector("announced_total", "Objects announced in the topic objects, by cause.", "cause"),
		skipped:   vector("intake_skipped_total", "Objects found and not announced, by reason.", "reason"),
		setAside:  vector("intake_dead_letters_total", "Messages of queues set aside, by reason.", "reason"),
		listings:  vector("listings_total", "Passes over a source's bucket and prefix, by outcome.", "outcome"),
		listed: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem,
			Name: "listed_objects", Help: "Objects remembered as announced, over the sources listed by this instance."}),
		spilled: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem,
			Name: "listing_spilled_total", Help: "Announcements that could not be remembered, for lack of room."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Subsystem: subsystem,
			Name: "listing_seconds", Help: "Duration of a pass.", Buckets: prometheus.ExponentialBuckets(0.01, 4, 10)}),
	}
	for _, cause := range []topics.Cause{topics.CauseListed, topics.CauseNotified, topics.CauseBackfill} {
		m.announced.WithLabelValues(string(cause)).Add(0)
	}
	for _, reason := range []string{skippedEmpty, skippedDirectory, skippedFiltered, skippedEvent, skippedBucket} {
		m.skipped.WithLabelValues(reason).Add(0)
	}
	for _, reason := range []topics.Reason{topics.ReasonNotANotification, topics.ReasonObjectMissing, topics.ReasonObjectForbidden} {
		m.setAside.WithLabelValues(string(reason)).Add(0)
	}
	for _, outcome := range []string{"complete", "failed"} {
		m.listings.WithLabelValues(outcome).Add(0)
	}
	var err error
	if m.queues, err = newQueueMetrics(registry); err != nil {
		return nil, err
	}
	if registry == nil {
		return &Metrics{m}, nil
	}
	var problems []error
	for _, collector := range []prometheus.Collector{m.announced, m.skipped, m.setAside, m.listings, m.listed, m.spilled, m.seconds} {
		problems = append(problems, registry.Register(collector))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("intake metrics: %w", err)
	}
	return &Metrics{m}, nil
}
