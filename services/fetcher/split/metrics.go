package split

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditstream/auditstream/topics"
)

// Outcomes of a record of `objects`.
const (
	outcomeDone      = "done"       // its last line is in raw
	outcomeContinued = "continued"  // a slice is in raw, the next link in objects
	outcomePostponed = "postponed"  // the same piece of work, later
	outcomeRetried   = "retried"    // came to nothing, tried again later
	outcomeDuplicate = "duplicate"  // announced before
	outcomeDead      = "deadletter" // set aside
	outcomeNote      = "note"       // no work: what was announced is noted
)

var reasons = []topics.Reason{
	topics.ReasonObjectMissing, topics.ReasonObjectForbidden, topics.ReasonObjectChanged, topics.ReasonObjectCorrupt,
	topics.ReasonObjectArchived, topics.ReasonObjectTooLarge, topics.ReasonObjectUnavailable, topics.ReasonLineTooLong, topics.ReasonMalformedRecord,
	topics.ReasonUnknownSource, topics.ReasonObjectWithoutETag,
}

// Metrics count committed work only: what an aborted transaction did is done
// again. Breaks of reads are counted as they happen.
type Metrics struct {
	objects      *prometheus.CounterVec
	sizes        *prometheus.CounterVec // stored bytes of objects that have come to an end
	lines        prometheus.Counter
	blankLines   prometheus.Counter
	stored, raw  prometheus.Counter // bytes read from the store, and decompressed
	deadLetters  *prometheus.CounterVec
	retries      *prometheus.CounterVec
	resumedReads prometheus.Counter
	reopened     prometheus.Counter
	openObjects  prometheus.Gauge

	dedupeEntries prometheus.Gauge
	dedupeEvicted prometheus.Counter
	seconds       prometheus.Histogram
}

// NewMetrics registers the metrics, each label value at zero.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	const namespace, subsystem = "auditstream", "fetcher"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, []string{label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
	}
	bytes := vector("bytes_total", "Bytes of objects, as stored and decompressed.", "form")
	m := &Metrics{
		objects:       vector("objects_total", "Records of the topic objects by outcome.", "outcome"),
		sizes:         vector("object_bytes_total", "Bytes, as stored, of the objects that came to an end, by outcome.", "outcome"),
		lines:         counter("lines_total", "Lines produced to raw."),
		blankLines:    counter("blank_lines_total", "Blank lines, which are skipped."),
		stored:        bytes.WithLabelValues("stored"),
		raw:           bytes.WithLabelValues("decompressed"),
		deadLetters:   vector("dead_letters_total", "Objects and lines set aside, by reason.", "reason"),
		retries:       vector("retries_total", "Tries of a piece of work that came to nothing and are repeated, by reason.", "reason"),
		resumedReads:  counter("resumed_reads_total", "Reads that broke in the middle of an object and went on at the same byte."),
		reopened:      counter("reopened_total", "Large objects opened again in the middle: their open stream was lost."),
		openObjects:   gauge("open_objects", "Large objects kept open between slices."),
		dedupeEntries: gauge("dedupe_entries", "Announcements remembered."),
		dedupeEvicted: counter("dedupe_evicted_total", "Announcements forgotten before the horizon, for lack of room."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "object_to_raw_seconds",
			Help:    "From the creation of an object to its last line in raw.",
			Buckets: prometheus.ExponentialBuckets(0.5, 2, 18),
		}),
	}
	for _, outcome := range []string{outcomeDone, outcomeContinued, outcomePostponed, outcomeRetried, outcomeDuplicate, outcomeDead, outcomeNote} {
		m.objects.WithLabelValues(outcome).Add(0)
	}
	for _, outcome := range []string{outcomeDone, outcomeDuplicate, outcomeDead} {
		m.sizes.WithLabelValues(outcome).Add(0)
	}
	for _, reason := range reasons {
		m.deadLetters.WithLabelValues(string(reason)).Add(0)
		m.retries.WithLabelValues(string(reason)).Add(0)
	}
	if registry == nil {
		return m, nil
	}
	var problems []error
	for _, collector := range []prometheus.Collector{
		m.objects, m.sizes, m.lines, m.blankLines, bytes, m.deadLetters, m.retries, m.resumedReads, m.reopened, m.openObjects,
		m.dedupeEntries, m.dedupeEvicted, m.seconds,
	} {
		problems = append(problems, registry.Register(collector))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("split metrics: %w", err)
	}
	return m, nil
}

// Resumed counts a read that broke and goes on.
func (m *Metrics) Resumed(error) { m.resumedReads.Inc() }
