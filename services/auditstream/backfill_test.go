package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBackfillThatCannotBeMeant(t *testing.T) {
	for _, arguments := range [][]string{
		{"backfill"},
		{"backfill", "--source", "a", "--since", "yesterday"},
		{"backfill", "--source", "a", "--until", "1"},
	} {
		got := command(t, nil, nil, arguments...)
		require.Equal(t, exitUsage, got.code, arguments)
		require.NotEmpty(t, got.stderr)
	}
}
