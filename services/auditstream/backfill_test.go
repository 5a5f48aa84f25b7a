package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/services/fetcher/backfill"
)

func TestBackfillThatCannotBeMeant(t *testing.T) {
	for _, arguments := range [][]string{
		{"backfill"},
		{"backfill", "--source", "a", "--since", "yesterday"},
		{"backfill", "--source", "a", "--until", "1"},
		{"backfill", "--source", "a", "--since", "1d", "--until", "2d"},
	} {
		got := command(t, nil, nil, arguments...)
		require.Equal(t, exitUsage, got.code, arguments)
		require.NotEmpty(t, got.stderr)
	}
}

// A dry run announces nothing, and says so.
func TestBackfillInWords(t *testing.T) {
	totals := backfill.Totals{Listed: 1500, Announced: 1200, Bytes: 2_500_000, Complete: 300}
	require.Equal(t, "listed 1,500, announced 1,200 (2.5 MB), complete already 300, outside the time 0, skipped 0", inWords(totals, false))
	require.Equal(t, "listed 1,500, to announce 1,200 (2.5 MB), complete already 300, outside the time 0, skipped 0", inWords(totals, true))
}
