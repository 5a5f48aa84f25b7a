package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/telemetry"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func TestReadinessFollowsComponents(t *testing.T) {
	health := telemetry.NewHealth(slog.New(slog.DiscardHandler))
	server := httptest.NewServer(telemetry.Handler(telemetry.NewRegistry(), health))
	defer server.Close()

	status, _ := get(t, server.URL+"/readyz")
	require.Equal(t, http.StatusOK, status, "nothing is expected")

	health.Expect("kafka", "clickhouse")
	status, body := get(t, server.URL+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "clickhouse: not up yet\nkafka: not up yet\n", body)

	health.Report("kafka", nil)
	health.Report("clickhouse", errors.New("connection refused"))
	status, body = get(t, server.URL+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "clickhouse: connection refused\n", body)

	health.Expect("kafka") // keeps the state it has
	health.Report("clickhouse", nil)
	status, _ = get(t, server.URL+"/readyz")
	require.Equal(t, http.StatusOK, status)

	health.Report("normalized/3", errors.New("gap"))
	require.EqualError(t, health.Ready(), "normalized/3: gap")
	health.Forget("normalized/3")
	require.NoError(t, health.Ready())

	status, _ = get(t, server.URL+"/healthz")
	require.Equal(t, http.StatusOK, status)
}

func TestHealthLogsOncePerChange(t *testing.T) {
	var log bytes.Buffer
	health := telemetry.NewHealth(slog.New(slog.NewTextHandler(&log, nil)))
	health.Expect("kafka")
	for range 3 {
		health.Report("kafka", errors.New("refused"))
	}
	health.Report("kafka", errors.New("timeout")) // still ill
	for range 3 {
		health.Report("kafka", nil)
	}
	health.Report("kafka", errors.New("refused"))
	require.Equal(t, 2, strings.Count(log.String(), "not well"), log.String())
	require.Equal(t, 1, strings.Count(log.String(), "well again"), log.String())
	require.Equal(t, 3, strings.Count(log.String(), "\n"), log.String())
}

func TestAdminServer(t *testing.T) {
	health := telemetry.NewHealth(slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := telemetry.Listen(ctx, config.Admin{Address: "127.0.0.1:0"})
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		done <- telemetry.ServeListener(ctx, listener, telemetry.NewRegistry(), health, slog.New(slog.DiscardHandler))
	}()
	base := "http://" + listener.Addr().String()

	_, metrics := get(t, base+"/metrics")
	for _, name := range []string{"auditstream_build_info{", "go_goroutines ", "process_open_fds "} {
		require.Contains(t, metrics, name)
	}
	status, _ := get(t, base+"/debug/pprof/goroutine?debug=1")
	require.Equal(t, http.StatusOK, status)
	status, _ = get(t, base+"/nothing")
	require.Equal(t, http.StatusNotFound, status)

	cancel()
	require.NoError(t, <-done)
}

func TestAdminAddressInUse(t *testing.T) {
	var listen net.ListenConfig
	taken, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()

	address := taken.Addr().String()
	err = telemetry.Serve(t.Context(), config.Admin{Address: address}, telemetry.NewRegistry(),
		telemetry.NewHealth(slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "address "+address+" is in use by another process; set admin.address")
}

func TestNoAdminAddress(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, telemetry.Serve(ctx, config.Admin{}, nil, nil, nil))
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, config.Log{Level: "warn", Format: "json"})
	log.Info("not shown")
	log.Warn("shown", "topic", "raw")
	var line map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &line), out.String())
	require.Equal(t, "raw", line["topic"])

	out.Reset()
	log = telemetry.NewLogger(&out, config.Log{})
	log.Debug("not shown")
	log.Info("shown")
	require.Contains(t, out.String(), "level=INFO msg=shown")
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
}

func TestBuild(t *testing.T) {
	build := telemetry.ReadBuild()
	require.NotEmpty(t, build.Version)
	require.NotEmpty(t, build.Revision)
	require.Contains(t, build.Platform, "/")
}
