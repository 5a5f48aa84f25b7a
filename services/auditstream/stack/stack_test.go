package stack_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/access"
	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/embedded"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/stack"
)

func TestMain(m *testing.M) {
	embedded.RunChildIfAsked()
	os.Exit(m.Run())
}

func configuration(t *testing.T) config.Config {
	t.Helper()
	cfg, err := config.Load("", nil)
	require.NoError(t, err)
	cfg.Kafka.Instance = "test"
	cfg.Embedded.Directory = t.TempDir()
	cfg.Embedded.TakeFreePorts()
	return cfg
}

func options(t *testing.T) stack.Options {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	return stack.Options{Log: log, Registry: telemetry.NewRegistry(), Health: telemetry.NewHealth(log)}
}

// ids are those of all rows, sorted.
func ids(t *testing.T, cfg config.Config) []string {
	t.Helper()
	connection, err := clickhouse.Connect(cfg.ClickHouse, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer connection.Close()
	var all []string
	rows, err := connection.Query(t.Context(), "SELECT id FROM kubernetes_audit_logs ORDER BY id")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id string
		require.NoError(t, rows.Scan(&id))
		all = append(all, id)
	}
	require.NoError(t, rows.Err())
	return all
}

// What is put into the bucket becomes rows, also over a stop and a start of
// everything in the same folder.
func TestFromBucketToTable(t *testing.T) {
	cfg := configuration(t)
	var want []string
	for round := range 2 {
		pipeline, err := stack.Start(t.Context(), cfg, options(t))
		require.NoError(t, err)
		effective := pipeline.Config()
		require.NoError(t, effective.Validate(config.CommandFetcher, config.CommandEnricher, config.CommandSink))
		require.Equal(t, stack.DefaultBucket, effective.Sources[0].Bucket)

		const lines = 500
		var text bytes.Buffer
		for line := range lines {
			fmt.Fprintf(&text, `{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"%d-%d","stage":"ResponseComplete","verb":"get","requestURI":"/healthz","sourceIPs":["192.0.2.1"]}`+"\n", round, line)
		}
		bucket, key := stack.DefaultBucket, fmt.Sprintf("audit-%d.log", round)
		put, err := pipeline.S3().Client().PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(text.Bytes())})
		require.NoError(t, err)
		object := identity.ObjectID(effective.S3.Alias, bucket, key, strings.Trim(*put.ETag, `"`))
		for line := range lines {
			want = append(want, identity.RowID(object, int64(line)+1, 0))
		}
		slices.Sort(want)

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- pipeline.Run(ctx) }()
		deadline := time.NewTimer(2 * time.Minute)
		for tick := time.NewTicker(200 * time.Millisecond); len(ids(t, effective)) < len(want); {
			select {
			case <-tick.C:
			case err := <-done:
				t.Fatalf("ended by itself: %v", err)
			case <-deadline.C:
				t.Fatalf("have %d of %d rows", len(ids(t, effective)), len(want))
			}
		}
		require.Equal(t, want, ids(t, effective))
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, pipeline.Close())
	}
}

func TestPortInUseNamesItsKey(t *testing.T) {
	var listen net.ListenConfig
	taken, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	address := taken.Addr().String()
	for key, set := range map[string]func(*config.Embedded){
		"embedded.kafkaAddress":         func(e *config.Embedded) { e.KafkaAddress = address },
		"embedded.s3Address":            func(e *config.Embedded) { e.S3Address = address },
		"embedded.clickhouseTCPAddress": func(e *config.Embedded) { e.ClickHouseTCPAddress = address },
	} {
		t.Run(key, func(t *testing.T) {
			cfg := configuration(t)
			set(&cfg.Embedded)
			_, err := stack.Start(t.Context(), cfg, options(t))
			require.ErrorIs(t, err, embedded.ErrAddressInUse)
			require.ErrorContains(t, err, address)
			require.ErrorContains(t, err, key)
		})
	}
}

// Sources without any S3 settings are AWS's, which needs a region; that they may
// be meant to be here is said before a server is started.
func TestSourcesWithoutS3SettingsAreTold(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	cfg := configuration(t)
	cfg.Sources = []config.Source{config.DefaultSource()}
	cfg.Sources[0].ID, cfg.Sources[0].Bucket = "mine", "mine"
	_, err := stack.Start(t.Context(), cfg, options(t))
	require.ErrorIs(t, err, access.ErrNoRegion)
	for _, hint := range []string{"s3.region", "AWS_REGION", "s3.endpoint", "embedded.s3: true"} {
		require.ErrorContains(t, err, hint)
	}
	left, err := os.ReadDir(cfg.Embedded.Directory)
	require.NoError(t, err)
	require.Empty(t, left, "no server was started")

	opts := options(t)
	opts.Stages = []config.Command{config.CommandEnricher} // which reads no objects
	pipeline, err := stack.Start(t.Context(), cfg, opts)
	require.NoError(t, err)
	require.NoError(t, pipeline.Close())
}

func TestFolderOfAnotherProcess(t *testing.T) {
	cfg := configuration(t)
	opts := options(t)
	opts.Stages = []config.Command{}
	first, err := stack.Start(t.Context(), cfg, opts)
	require.NoError(t, err)
	defer func() { require.NoError(t, first.Close()) }()
	_, err = stack.Start(t.Context(), cfg, opts)
	require.ErrorContains(t, err, "in use")
}

func TestStartNeedsItsReporters(t *testing.T) {
	_, err := stack.Start(t.Context(), config.Default(), stack.Options{})
	require.Error(t, err)
}

func TestAuditSource(t *testing.T) {
	source, err := stack.AuditSource(&config.Source{
		ID: "a", Workspace: "w", TTLDays: 3, Tags: map[string]string{"b": "2", "a": "1"},
		APIServerAddress: "192.0.2.10", TrustedProxies: []string{"10.0.0.0/8"}, EventKeys: []string{"payload"},
	})
	require.NoError(t, err)
	require.Equal(t, "a", source.Tags[0].Key, "tags have one order")
	require.Equal(t, "kubernetes-audit", source.Type)
	require.Equal(t, "192.0.2.10", source.APIServerIP.String())
	require.Equal(t, "10.0.0.0/8", source.TrustedProxies[0].String())

	_, err = stack.AuditSource(&config.Source{ID: "a", APIServerAddress: "x"})
	require.Error(t, err)
	_, err = stack.AuditSource(&config.Source{ID: "a", TrustedProxies: []string{"x"}})
	require.Error(t, err)
}
