package verify_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/stack"
	"github.com/auditstream/auditstream/services/auditstream/verify"
	"github.com/auditstream/auditstream/topics"
)

const (
	event = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"1","stage":"ResponseComplete","verb":"get","requestURI":"/healthz"}`
	list  = `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + event + `,` + event + `,{"kind":"Pod"}]}`
	pair  = `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + event + `,` + event + `]}`
)

// pipeline is the whole of it, running until the test ends.
type pipeline struct {
	t     *testing.T
	stack *stack.Stack
	cfg   config.Config
	conn  driver.Conn
	stop  func()
}

func startPipeline(t *testing.T) *pipeline {
	t.Helper()
	cfg := config.Default()
	cfg.Kafka.Instance, cfg.Admin.Address = "test", ""
	cfg.Topics.LineLimit = 64 << 10
	cfg.Fetcher.Attempts, cfg.Fetcher.Backoff = 2, 100*time.Millisecond
	cfg.Fetcher.SliceSize = 128 << 10
	cfg.Sink.BatchAge = 200 * time.Millisecond
	cfg.Embedded.Directory = t.TempDir()
	cfg.Embedded.TakeFreePorts()
	log := slog.New(slog.DiscardHandler)
	running, err := stack.Start(t.Context(), cfg, stack.Options{Log: log, Registry: telemetry.NewRegistry(), Health: telemetry.NewHealth(log)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, running.Close()) })
	p := &pipeline{t: t, stack: running, cfg: running.Config()}
	p.conn, err = clickhouse.Connect(p.cfg.ClickHouse, log)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.conn.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- running.Run(ctx) }()
	stopped := false
	p.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(p.stop)
	return p
}

func (p *pipeline) put(key string, content []byte) (object string) {
	p.t.Helper()
	bucket := p.cfg.Sources[0].Bucket
	put, err := p.stack.S3().Client().PutObject(p.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(content)})
	require.NoError(p.t, err)
	return identity.ObjectID(p.cfg.S3.Alias, bucket, key, strings.Trim(*put.ETag, `"`))
}

// verify looks until what is asked for holds.
func (p *pipeline) verify(bucket bool, until func(*verify.Report) bool) *verify.Report {
	p.t.Helper()
	log := slog.New(slog.DiscardHandler)
	deadline := time.Now().Add(time.Minute)
	for {
		flight, err := verify.OpenTopics(p.cfg, log)
		require.NoError(p.t, err)
		opts := verify.Options{ClickHouse: p.cfg.ClickHouse, Shards: []driver.Conn{p.conn}, Flight: flight}
		if bucket {
			store, err := objectstore.New(p.t.Context(), p.cfg.S3, objectstore.Options{Sources: p.cfg.Sources, Log: log})
			require.NoError(p.t, err)
			opts.Bucket = &verify.Bucket{Store: store, Sources: p.cfg.Sources}
		}
		report, err := verify.Run(p.t.Context(), opts)
		flight.Close()
		require.NoError(p.t, err)
		if until(report) {
			return report
		}
		require.True(p.t, time.Now().Before(deadline), "%+v", report)
		// The pipeline is asked again when it has had time to go on.
		select {
		case <-time.After(100 * time.Millisecond):
		case <-p.t.Context().Done():
		}
	}
}

// Of every kind of line and object: while the pipeline works nothing is called
// wrong, when it is through everything is there, and what is spoilt by hand
// afterwards is found.
func TestPipelineIsVerified(t *testing.T) {
	p := startPipeline(t)
	mixed := p.put("mixed.log", []byte(strings.Join([]string{
		event, "", "no JSON", event, "  ", list, strings.Repeat("x", 70<<10), pair, pair, `[]`, event,
	}, "\n")))
	var many strings.Builder
	for line := range 3000 { // of several slices
		fmt.Fprintf(&many, "%s\n", strings.Replace(event, `"1"`, fmt.Sprintf(`"%d"`, line), 1))
	}
	large := p.put("large.log", []byte(many.String()))
	corrupt := p.put("corrupt.gz", []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x07 garbage"))
	absent := topics.Object{
		ID: identity.ObjectID(p.cfg.S3.Alias, p.cfg.Sources[0].Bucket, "absent", "e"), Source: p.cfg.Sources[0].ID, Endpoint: p.cfg.S3.Alias,
		Bucket: p.cfg.Sources[0].Bucket, Key: "absent", ETag: "e", FromLine: 1, Cause: topics.CauseNotified, AnnouncedAt: time.Now().UTC(),
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(p.cfg.Kafka.Brokers...))
	require.NoError(t, err)
	defer client.Close()
	record, err := absent.Record(p.cfg.Topics.Names().Objects)
	require.NoError(t, err)
	require.NoError(t, client.ProduceSync(t.Context(), record).FirstErr())

	r := p.verify(true, func(r *verify.Report) bool {
		require.Empty(t, withoutAnnouncing(r.Problems), "while it is under way")
		return r.Totals.Objects == 4 && len(r.UnderWay) == 0 && r.Complete()
	})
	require.Equal(t, verify.Totals{Objects: 4, Dead: 2, Lines: 3011, WithRows: 3006, DeadOnly: 2, Skipped: 3, Rows: 3009}, r.Totals)
	require.Equal(t, int64(3), r.Listed)
	dead := map[string]string{}
	for _, object := range r.Dead {
		dead[object.Object] = object.Reason
	}
	require.Equal(t, map[string]string{corrupt: "object-corrupt", absent.ID: "object-missing"}, dead)
	p.stop()

	p.exec("ALTER TABLE kubernetes_audit_logs MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1")
	p.exec("ALTER TABLE kubernetes_audit_logs DELETE WHERE id = '" + identity.RowID(large, 1234, 0) + "' SETTINGS mutations_sync = 2")
	p.exec("ALTER TABLE kubernetes_audit_logs DELETE WHERE id = '" + identity.RowID(mixed, 9, 1) + "' SETTINGS mutations_sync = 2")
	p.exec("INSERT INTO kubernetes_audit_logs SELECT * FROM kubernetes_audit_logs WHERE id = '" + identity.RowID(large, 77, 0) + "'")
	skipped := p.put("skipped.log", []byte(event)) // nobody lists any more
	r = p.verify(true, func(*verify.Report) bool { return true })
	require.Len(t, r.Problems, 3)
	for _, problem := range r.Problems {
		switch problem.Object {
		case large:
			require.Equal(t, "1234", problem.Missing.String())
			require.Equal(t, "77", problem.Doubled.String())
		case mixed:
			require.Equal(t, "9", problem.Short.String())
			require.Empty(t, problem.Missing)
		case skipped:
			require.True(t, problem.Unannounced)
			require.Equal(t, "s3://"+p.cfg.Sources[0].Bucket+"/skipped.log", problem.URI)
		default:
			t.Errorf("%+v", problem)
		}
	}

	// An entry without any rows.
	p.exec("ALTER TABLE kubernetes_audit_logs DELETE WHERE startsWith(id, '" + large + "') SETTINGS mutations_sync = 2")
	r = p.verify(false, func(*verify.Report) bool { return true })
	require.Len(t, r.Problems, 2)
	require.Equal(t, int64(3000), r.Totals.Missing)
}

// withoutAnnouncing leaves out what no listing has seen yet.
func withoutAnnouncing(problems []verify.Problem) []verify.Problem {
	var rest []verify.Problem
	for _, problem := range problems {
		if !problem.Unannounced {
			rest = append(rest, problem)
		}
	}
	return rest
}

func (p *pipeline) exec(query string) {
	p.t.Helper()
	require.NoError(p.t, p.conn.Exec(p.t.Context(), query))
}
