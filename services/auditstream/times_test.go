package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)
	for text, want := range map[string]time.Time{
		"":                          {},
		"2026-01-31":                time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC),
		"2026-01-31T12:30:00Z":      time.Date(2026, 1, 31, 12, 30, 0, 0, time.UTC),
		"2026-01-31T12:30:00+02:00": time.Date(2026, 1, 31, 10, 30, 0, 0, time.UTC),
		"2026-01-31T12:30:00":       time.Date(2026, 1, 31, 12, 30, 0, 0, time.UTC),
		"36h":                       time.Date(2026, 3, 2, 17, 6, 7, 0, time.UTC),
		"2d":                        time.Date(2026, 3, 2, 5, 6, 7, 0, time.UTC),
	} {
		got, err := parseTime(text, now)
		require.NoError(t, err)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"yesterday", "-2d", "2026-13-01", "d"} {
		_, err := parseTime(text, now)
		require.ErrorContains(t, err, "is no time", text)
	}
}

func TestParseTimes(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)
	for _, flags := range [][2]string{{"", ""}, {"2d", ""}, {"", "2d"}, {"2d", "1d"}, {"2026-01-31", "2d"}} {
		_, _, err := parseTimes(flags[0], flags[1], now)
		require.NoError(t, err, "%v", flags)
	}
	for _, flags := range [][2]string{{"1d", "2d"}, {"2026-01-31", "2026-01-31"}} {
		_, _, err := parseTimes(flags[0], flags[1], now)
		require.ErrorAs(t, err, new(*config.ProblemsError), "%v", flags)
		require.ErrorContains(t, err, "--since: is not before --until")
	}
}
