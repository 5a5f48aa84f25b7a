package geo

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics tell each database in use, when it was built and how old it is.
type metrics struct {
	databases *Databases
	loads     prometheus.Counter
	refused   prometheus.Counter
	failures  [kinds]prometheus.Counter
	info      *prometheus.Desc
	built     *prometheus.Desc
	age       *prometheus.Desc
}

func newMetrics(registry prometheus.Registerer, databases *Databases) (*metrics, error) {
	const prefix = "auditstream_enricher_geoip_"
	m := &metrics{
		databases: databases,
		loads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "loads_total", Help: "GeoIP database files read and taken into use.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "refused_files_total", Help: "GeoIP database files refused as broken or of no use.",
		}),
		info: prometheus.NewDesc(prefix+"database_info", "GeoIP databases in use.",
			[]string{"kind", "type", "file"}, nil),
		built: prometheus.NewDesc(prefix+"database_build_timestamp_seconds", "When a GeoIP database in use was built.",
			[]string{"kind"}, nil),
		age: prometheus.NewDesc(prefix+"database_age_seconds", "Time since a GeoIP database in use was built.",
			[]string{"kind"}, nil),
	}
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: prefix + "lookup_failures_total", Help: "Lookups that failed, by kind of database.",
	}, []string{"kind"})
	for kind := range m.failures {
		m.failures[kind] = failures.WithLabelValues(kindNames[kind])
	}
	if registry == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{m.loads, m.refused, failures, m} {
		if err := registry.Register(collector); err != nil {
			return nil, fmt.Errorf("register metrics of GeoIP: %w", err)
		}
	}
	return m, nil
}

// Describe is of prometheus.Collector.
func (m *metrics) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- m.info
	descriptions <- m.built
	descriptions <- m.age
}

// Collect is of prometheus.Collector.
func (m *metrics) Collect(values chan<- prometheus.Metric) {
	for kind, db := range m.databases.current.Load().by {
		if db == nil {
			continue
		}
		name := kindNames[kind]
		values <- prometheus.MustNewConstMetric(m.info, prometheus.GaugeValue, 1,
			name, db.reader.Metadata().DatabaseType, db.path)
		values <- prometheus.MustNewConstMetric(m.built, prometheus.GaugeValue, float64(db.built.Unix()), name)
		values <- prometheus.MustNewConstMetric(m.age, prometheus.GaugeValue, time.Since(db.built).Seconds(), name)
	}
}
