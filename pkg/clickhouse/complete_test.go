package clickhouse

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCompleteObjects(t *testing.T) {
	cfg := testConfig(t)
	conn := connect(t, cfg)
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	_, err := CompleteObjects(t.Context(), conn, cfg, "s", []string{"a"}, at, at)
	require.ErrorIs(t, err, ErrNoLedger)

	table, err := OpenObjects(cfg, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, table.Close()) }()
	_, err = Apply(t.Context(), conn, cfg)
	require.NoError(t, err)
	require.NoError(t, table.Prepare(t.Context()))
	epoch := time.UnixMilli(0)
	row := func(object, source, kind, outcome string, firstLine uint64, received time.Time) ObjectsRow {
		return ObjectsRow{ID: fmt.Sprintf("%s %s %s %d", object, kind, outcome, firstLine), Object: object, SourceID: source, Kind: kind, Outcome: outcome,
			FirstLine: firstLine, ReceivedAt: uint32(received.Unix()), RecordedAt: at, ReplaySince: epoch, ReplayUntil: epoch} //nolint:gosec // of this century
	}
	_, err = table.Insert(t.Context(), "token", []ObjectsRow{
		row("complete", "s", "object", "complete", 1, at),
		row("twice", "s", "object", "complete", 1, at.Add(time.Hour)), row("twice", "s", "object", "complete", 1, at.Add(time.Hour)),
		row("mended", "s", "object", "deadletter", 1, at), row("mended", "s", "object", "complete", 1, at),
		row("set aside", "s", "object", "deadletter", 1, at),
		row("its end", "s", "object", "complete", 7, at), // the lines before are another run's
		row("lines", "s", "lines", "skip", 0, at),
		row("another's", "r", "object", "complete", 1, at),
		row("earlier", "s", "object", "complete", 1, at.Add(-24*time.Hour)),
	})
	require.NoError(t, err)
	got, err := CompleteObjects(t.Context(), conn, cfg, "s",
		[]string{"complete", "twice", "mended", "set aside", "its end", "lines", "another's", "earlier", "it's none"}, at.Add(300*time.Millisecond), at.Add(time.Hour))
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"complete", "twice", "mended"}, got)
	got, err = CompleteObjects(t.Context(), conn, cfg, "s", nil, at, at)
	require.NoError(t, err)
	require.Empty(t, got)
}
