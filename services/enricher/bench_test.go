package enricher_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/generate"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/services/enricher"
	"github.com/auditstream/auditstream/topics"
)

const benchLines = 200_000

// BenchmarkEnricher measures the enricher, and in the same run the ceiling: a
// bare transactional copy of the same records to one topic with franz-go.
// Broker, client and stage share the machine's cores.
//
//	go test -run '^$' -bench . -benchtime 1x ./services/enricher
func BenchmarkEnricher(b *testing.B) {
	var copied, enriched, copyCPU, enrichCPU, bytes float64
	for range b.N {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
		require.NoError(b, err)
		k := newBroker(b, cluster.ListenAddrs())
		bytes = float64(k.fillGenerated(b, benchLines))
		// One first to warm up what both share, uncounted.
		k.measure(b, "warm", k.bareCopy)
		before := cpuSeconds(b)
		copied += k.measure(b, "copy", k.bareCopy)
		between := cpuSeconds(b)
		enriched += k.measure(b, "enrich", func(ctx context.Context, b *testing.B) {
			k.runEnricher(ctx, b, prometheus.NewRegistry())
		})
		copyCPU += between - before
		enrichCPU += cpuSeconds(b) - between
		cluster.Close()
	}
	runs := float64(b.N)
	b.ReportMetric(copied/runs, "copy-lines/s")
	b.ReportMetric(enriched/runs, "enrich-lines/s")
	b.ReportMetric(enriched/runs*bytes/benchLines/1e6, "enrich-MB/s")
	b.ReportMetric(enriched/copied, "ratio")
	// The same by the processor's time, which other load on the machine changes less.
	b.ReportMetric(copyCPU/enrichCPU, "cpu-ratio")
	b.ReportMetric(enrichCPU/runs/benchLines*1e6, "enrich-cpu-us/line")
	b.ReportMetric(0, "ns/op")
}

func cpuSeconds(b testing.TB) float64 {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(usage.Utime) + seconds(usage.Stime)
}

// fillGenerated writes realistic lines to `raw`, and returns their bytes.
func (k *broker) fillGenerated(b testing.TB, lines int) int {
	generator, err := generate.New(generate.Options{Seed: 1})
	require.NoError(b, err)
	object := identity.ObjectID("aws", "bucket", "key", "etag")
	size := 0
	records := make([]*kgo.Record, 0, 5000)
	for i := 1; i <= lines; i++ {
		line, _ := generator.AppendLine(nil)
		size += len(line)
		raw := topics.RawLine{Source: "prod", Object: object, Line: int64(i), ReceivedAt: 1_700_000_000_000, Bytes: line}
		records = append(records, raw.Record(k.names.Raw))
		if len(records) == cap(records) || i == lines {
			require.NoError(b, k.client.ProduceSync(b.Context(), records...).FirstErr())
			records = records[:0]
		}
	}
	return size
}

// measure runs until the group has consumed everything, and returns lines per
// second from the first committed transaction on.
func (k *broker) measure(b *testing.B, group string, run func(ctx context.Context, b *testing.B)) float64 {
	k.group = group
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx, b) }()
	remaining := func() int64 {
		lags, err := kafka.ReadLag(ctx, k.client, k.groupName(), k.names.Raw)
		require.NoError(b, err)
		var sum int64
		for _, lag := range lags {
			if lag.Committed < 0 {
				return benchLines
			}
			sum += lag.HighWatermark
		}
		return sum
	}
	wait := func(below int64) (time.Time, int64) {
		for {
			if left := remaining(); left < below {
				return time.Now(), left
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	begun, left := wait(benchLines)
	ended, _ := wait(1)
	cancel()
	<-done
	return float64(left) / ended.Sub(begun).Seconds()
}

func (k *broker) bareCopy(ctx context.Context, b *testing.B) {
	opts, err := kafka.Options(config.Kafka{Brokers: k.addresses}, nil, nil)
	require.NoError(b, err)
	opts = append(opts, kafka.RecordSizes(k.names, lineLimit)...)
	opts = append(opts, kgo.ConsumerGroup(k.groupName()), kgo.ConsumeTopics(k.names.Raw),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.TransactionalID(k.groupName()))
	session, err := kgo.NewGroupTransactSession(opts...)
	require.NoError(b, err)
	defer session.Close()
	for ctx.Err() == nil {
		fetches := session.PollRecords(ctx, 10_000)
		if fetches.NumRecords() == 0 {
			continue
		}
		require.NoError(b, session.Begin())
		fetches.EachRecord(func(record *kgo.Record) {
			session.Produce(ctx, &kgo.Record{Topic: k.names.DeadLetter, Value: record.Value, Headers: record.Headers}, nil)
		})
		committed, err := session.End(context.WithoutCancel(ctx), kgo.TryCommit)
		require.NoError(b, err)
		if !committed && ctx.Err() == nil {
			fmt.Println("copy: a transaction was aborted")
		}
	}
}

func (k *broker) runEnricher(ctx context.Context, t testing.TB, registry *prometheus.Registry) {
	stage, err := enricher.New(k.options(registry))
	require.NoError(t, err)
	require.NoError(t, stage.Run(ctx))
}
