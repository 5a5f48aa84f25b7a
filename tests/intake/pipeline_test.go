package intake_test

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/services/auditstream/stack"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/tests/stages"
	"github.com/auditstream/auditstream/topics"
)

const patience = 90 * time.Second

// pipeline is a broker with the fetcher's topics.
type pipeline struct {
	t       *testing.T
	brokers []string
	name    string
	names   topics.Names
	client  *kgo.Client
	sources []config.Source
	s3      config.S3
	tries   int // of an object; 0: as by default
}

func newPipeline(t *testing.T, s3 config.S3, sources ...config.Source) *pipeline {
	t.Helper()
	p := &pipeline{t: t, brokers: servers.Kafka(t), name: servers.Name(t, "intake"), sources: sources, s3: s3}
	p.names = topics.NewNames(p.name + ".")
	var err error
	p.client, err = kgo.NewClient(kgo.SeedBrokers(p.brokers...))
	require.NoError(t, err)
	t.Cleanup(p.client.Close)
	cfg := p.config()
	require.NoError(t, stack.ApplyTopics(t.Context(), cfg, slog.New(slog.DiscardHandler)))
	var all []string
	for _, settings := range cfg.Topics.Settings() {
		all = append(all, settings.Name)
	}
	t.Cleanup(func() { _, _ = kadm.NewClient(p.client).DeleteTopics(context.Background(), all...) })
	return p
}

// config is that of all stages.
func (p *pipeline) config() config.Config {
	cfg := stages.Config(p.brokers, p.name)
	for _, topic := range []*config.Topic{&cfg.Topics.Objects, &cfg.Topics.Raw, &cfg.Topics.Normalized, &cfg.Topics.DeadLetter} {
		topic.Partitions = 3
	}
	cfg.Fetcher.SliceSize = 256 << 10
	if p.tries > 0 {
		cfg.Fetcher.Attempts, cfg.Fetcher.Backoff = p.tries, 50*time.Millisecond
	}
	cfg.Sink.BatchAge = 200 * time.Millisecond
	cfg.S3, cfg.Sources = p.s3, p.sources
	return cfg
}

// start runs one instance until the returned function is called.
func (p *pipeline) start(instance string) (registry *prometheus.Registry, stop func()) {
	p.t.Helper()
	cfg := p.config()
	cfg.Kafka.Instance = instance
	registry = prometheus.NewRegistry()
	log := slog.New(slog.NewTextHandler(p.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	return registry, stages.Run(p.t, cfg, log, registry, config.CommandFetcher)
}

// committed reads a topic from its beginning until enough records are there,
// and then for a moment more.
func (p *pipeline) committed(topic string, enough func([]*kgo.Record) bool) []*kgo.Record {
	p.t.Helper()
	return servers.Committed(p.t, p.brokers, topic, enough)
}

// requireRows compares what is in raw with the expected: row id to source and line.
func (p *pipeline) requireRows(want map[string]string) {
	p.t.Helper()
	got := make(map[string]string)
	var doubled []string
	records := p.committed(p.names.Raw, func(records []*kgo.Record) bool { return len(records) >= len(want) })
	for _, record := range records {
		line, err := topics.DecodeRawLine(record)
		require.NoError(p.t, err)
		id := identity.RowID(line.Object, line.Line, 0)
		if _, twice := got[id]; twice {
			doubled = append(doubled, id)
		}
		got[id] = line.Source + " " + string(line.Bytes)
	}
	require.Empty(p.t, doubled)
	require.Empty(p.t, cmp.Diff(want, got))
}

// deadLetters gives the values of n dead letters, sorted, by reason.
func (p *pipeline) deadLetters(n int) map[topics.Reason][]string {
	p.t.Helper()
	records := p.committed(p.names.DeadLetter, func(records []*kgo.Record) bool { return len(records) >= n })
	letters := make(map[topics.Reason][]string)
	for _, record := range records {
		letter, err := topics.DecodeDeadLetter(record)
		require.NoError(p.t, err)
		letters[letter.Reason] = append(letters[letter.Reason], string(letter.Bytes))
	}
	for _, reason := range slices.Collect(maps.Keys(letters)) {
		slices.Sort(letters[reason])
	}
	return letters
}

// announcements counts the records of objects that announce, by object id.
func (p *pipeline) announcements(enough int) map[string]int {
	p.t.Helper()
	counts := make(map[string]int)
	for _, record := range p.committed(p.names.Objects, func(records []*kgo.Record) bool { return len(records) >= enough }) {
		if topics.IsNoted(record) {
			continue
		}
		object, err := topics.DecodeObject(record.Value)
		require.NoError(p.t, err)
		if object.Cause.Announces() {
			counts[object.ID]++
		}
	}
	return counts
}

func metric(t *testing.T, registry *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	total := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, one := range family.GetMetric() {
			all := true
			for _, label := range labels {
				has := false
				for _, pair := range one.GetLabel() {
					has = has || strings.HasSuffix(pair.GetValue(), label)
				}
				all = all && has
			}
			if all {
				total += one.GetCounter().GetValue() + one.GetGauge().GetValue() + float64(one.GetHistogram().GetSampleCount())
			}
		}
	}
	return total
}

// source with the queue's defaults.
func source(id, bucket, prefix, queue string) config.Source {
	s := config.DefaultSource()
	s.ID, s.Bucket, s.Prefix = id, bucket, prefix
	s.Listing.Enabled = false
	s.Queue.URL = queue
	s.Queue.WaitTime = time.Second
	s.Queue.VisibilityTimeout = 10 * time.Second
	return s
}

func lines(rows map[string]string, source, object, content string) {
	for i, text := range strings.Split(strings.TrimSuffix(content, "\n"), "\n") {
		rows[identity.RowID(object, int64(i+1), 0)] = source + " " + strings.TrimSuffix(text, "\r")
	}
}
