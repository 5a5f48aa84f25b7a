package trace_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/embedded"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/lifecycle"
	"github.com/auditstream/auditstream/services/auditstream/stack"
	"github.com/auditstream/auditstream/services/auditstream/trace"
	"github.com/auditstream/auditstream/topics"
)

func TestMain(m *testing.M) {
	embedded.RunChildIfAsked()
	os.Exit(m.Run())
}

const patience = time.Minute

// pipeline is the servers, whose stages run when a test says so.
type pipeline struct {
	t      *testing.T
	stack  *stack.Stack
	cfg    config.Config
	names  topics.Names
	conn   driver.Conn
	client *kgo.Client
	admin  *kadm.Client
	tracer *trace.Tracer
}

func start(t *testing.T) *pipeline {
	t.Helper()
	cfg, err := config.Load("", nil)
	require.NoError(t, err)
	cfg.Kafka.Instance = "test"
	cfg.Embedded.Directory = t.TempDir()
	cfg.Embedded.TakeFreePorts()
	cfg.Fetcher.Attempts, cfg.Fetcher.Backoff = 2, 10*time.Millisecond
	p := &pipeline{t: t}
	p.stack, err = stack.Start(t.Context(), cfg, p.options(stack.Options{Stages: []config.Command{}}))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.stack.Close()) })
	p.cfg = p.stack.Config()
	p.names = p.cfg.Topics.Names()
	p.conn, err = clickhouse.Connect(p.cfg.ClickHouse, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.conn.Close() })
	p.client, err = kgo.NewClient(kgo.SeedBrokers(p.cfg.Kafka.Brokers...))
	require.NoError(t, err)
	t.Cleanup(p.client.Close)
	p.admin = kadm.NewClient(p.client)
	p.tracer = p.newTracer(p.conn)
	return p
}

func (p *pipeline) options(opts stack.Options) stack.Options {
	opts.Log = slog.New(slog.NewTextHandler(p.t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	opts.Registry, opts.Health = telemetry.NewRegistry(), telemetry.NewHealth(opts.Log)
	return opts
}

func (p *pipeline) newTracer(shards ...driver.Conn) *trace.Tracer {
	p.t.Helper()
	store, err := objectstore.New(p.t.Context(), p.cfg.S3, objectstore.Options{Sources: p.cfg.Sources})
	require.NoError(p.t, err)
	tracer, err := trace.New(trace.Options{
		Kafka: p.cfg.Kafka, Topics: p.cfg.Topics, Shards: shards, Table: "kubernetes_audit_logs", Ledger: "auditstream_objects", Store: store,
	})
	require.NoError(p.t, err)
	p.t.Cleanup(tracer.Close)
	return tracer
}

// run runs stages until the function it returns is called.
func (p *pipeline) run(stages ...config.Command) (stop func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	for _, stage := range stages {
		tasks, err := stack.NewStage(ctx, stage, p.cfg, p.options(stack.Options{}))
		require.NoError(p.t, err)
		group.Go(func() error { return lifecycle.Run(ctx, lifecycle.Grace, tasks...) })
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
				p.t.Errorf("stages %v: %v", stages, err)
			}
		}
	}
	p.t.Cleanup(stop)
	return stop
}

// put makes an object, and returns its id.
func (p *pipeline) put(key string, body string) string {
	p.t.Helper()
	bucket := stack.DefaultBucket
	out, err := p.stack.S3().Client().PutObject(p.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body)})
	require.NoError(p.t, err)
	return identity.ObjectID(p.cfg.S3.Alias, bucket, key, strings.Trim(*out.ETag, `"`))
}

func auditEvent(id, stage string) string {
	return fmt.Sprintf(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":%q,"stage":%q,"verb":"get","requestURI":"/healthz",`+
		`"sourceIPs":["192.0.2.1"],"requestReceivedTimestamp":"2026-01-01T10:00:00.000000Z","stageTimestamp":"2026-01-01T10:00:00.000000Z"}`, id, stage)
}

func (p *pipeline) trace(asked string) *trace.Report {
	p.t.Helper()
	report, err := p.tracer.Trace(p.t.Context(), asked)
	require.NoError(p.t, err)
	return report
}

// ends waits until what was asked for has come to the outcome.
func (p *pipeline) ends(asked string, outcome trace.Outcome) *trace.Trace {
	p.t.Helper()
	var report *trace.Report
	if !p.eventually(func() bool {
		report = p.trace(asked)
		return len(report.Traces) == 1 && report.Traces[0].Outcome == outcome
	}) {
		var text bytes.Buffer
		require.NoError(p.t, report.Text(&text))
		p.t.Fatalf("%s does not come to %q:\n%s", asked, outcome, &text)
	}
	require.Equal(p.t, outcome != trace.OutcomeNotFound, report.Found())
	require.NoError(p.t, report.Text(io.Discard))
	return &report.Traces[0]
}

func (p *pipeline) eventually(condition func() bool) bool {
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
	return true
}

// hops are names and states, in order.
func hops(t *trace.Trace) string {
	var all []string
	for _, hop := range t.Hops {
		all = append(all, hop.Name+" "+string(hop.State))
	}
	return strings.Join(all, ", ")
}

func hop(t *testing.T, one *trace.Trace, name string) trace.Hop {
	t.Helper()
	for _, hop := range one.Hops {
		if hop.Name == name {
			return hop
		}
	}
	t.Fatalf("no hop %q among %s", name, hops(one))
	return trace.Hop{}
}
