package main

import (
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/telemetry"
)

func TestHealth(t *testing.T) {
	health := telemetry.NewHealth(slog.New(slog.DiscardHandler))
	server := httptest.NewServer(telemetry.Handler(telemetry.NewRegistry(), health))
	environ := []string{"AUDITSTREAM_ADMIN_ADDRESS=" + strings.TrimPrefix(server.URL, "http://")}
	require.Equal(t, result{stdout: "ready\n"}, command(t, environ, nil, "health"))
	health.Report("kafka", errors.New("is away"))
	got := command(t, environ, nil, "health")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.stderr, "kafka: is away")
	require.Equal(t, result{stdout: "ok\n"}, command(t, environ, nil, "health", "--live"))
	server.Close()
	require.Equal(t, exitFailure, command(t, environ, nil, "health", "--live").code)
	require.Equal(t, exitUsage, command(t, []string{"AUDITSTREAM_ADMIN_ADDRESS="}, nil, "health").code)
}
