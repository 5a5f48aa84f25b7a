package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/auditstream/auditstream/pkg/config"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	holder := struct{ Password config.Secret }{"hunter2"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T"} {
		text := fmt.Sprintf(verb+" "+verb+" "+verb, holder.Password, holder, &holder)
		require.NotContains(t, text, "hunter2", verb)
		require.NotContains(t, text, "68756e74657232", verb)
	}
	encoded, err := json.Marshal(holder)
	require.NoError(t, err)
	require.JSONEq(t, `{"Password": "[set]"}`, string(encoded))
	encoded, err = yaml.Marshal(holder)
	require.NoError(t, err)
	require.Equal(t, "password: '[set]'\n", string(encoded))

	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("connect", "password", holder.Password, "all", holder)
	}
	require.NotContains(t, log.String(), "hunter2")
	require.Contains(t, log.String(), "[set]")
	require.Empty(t, config.Secret("").String())
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]config.Size{
		"16MiB": 16 << 20, "64KB": 64_000, "1GiB": 1 << 30, "512B": 512, "1.5KiB": 1536,
		" 2 MiB ": 2 << 20, "0B": 0, "-1B": -1,
	} {
		got, err := config.ParseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		again, err := config.ParseSize(got.String())
		require.NoError(t, err)
		require.Equal(t, want, again)
	}
	for _, text := range []string{"", "16", "MiB", "16 megs", "16mib", "0x10MiB", "1e3KB", "NaNB", "InfB", "99999999TiB", "1_000KB"} {
		_, err := config.ParseSize(text)
		require.Error(t, err, text)
	}
	require.Equal(t, "64000B", config.Size(64_000).String())
}

func TestDurations(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "7d": 7 * day, "1d12h": 36 * time.Hour, "1h30m": 90 * time.Minute,
		"500ms": 500 * time.Millisecond, "0s": 0, "-1s": -time.Second, "36500d": 36500 * day,
	} {
		got, err := config.ParseDuration(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		again, err := config.ParseDuration(config.FormatDuration(got))
		require.NoError(t, err)
		require.Equal(t, want, again)
	}
	for _, text := range []string{"", "0", "30", "7 days", "d", "1d-1s", "-1d", "70000d", "1w", "1d2d", "1.5d"} {
		_, err := config.ParseDuration(text)
		require.Error(t, err, text)
	}
	require.Equal(t, "1h30m", config.FormatDuration(90*time.Minute))
	require.Equal(t, "10h", config.FormatDuration(10*time.Hour))
	require.Equal(t, "10m", config.FormatDuration(10*time.Minute))
	require.Equal(t, "1m40s", config.FormatDuration(100*time.Second))
}
