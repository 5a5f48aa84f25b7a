package replay_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/services/auditstream/replay"
	"github.com/auditstream/auditstream/services/sink"
)

// A replay that died within a batch, and is gone on with by rules that make other
// rows, says what to do; both ways out end it.
func TestRulesChangedWithinABatch(t *testing.T) {
	w := newWorld(t)
	w.lines("one", "a", 1, 250)
	w.lines("two", "c", 1, 250)
	opts := w.options(replay.FromRaw)
	opts.Into = "filled"
	killed := opts
	seen := dies(&killed, sink.StepInserted, 1)
	require.ErrorContains(t, w.fails(killed), "died")
	require.Positive(t, seen.Load())

	changed := opts
	changed.Sources = map[string]*audit.Source{}
	maps.Copy(changed.Sources, opts.Sources)
	delete(changed.Sources, "two")
	var problem *replay.RulesChangedError
	err := w.fails(changed)
	require.ErrorAs(t, err, &problem)
	require.ErrorContains(t, err, "the same command goes on to its end")
	require.ErrorContains(t, err, "another --name than test")
	require.NotContains(t, err.Error(), "acceptGap", "nothing is missing")

	changed.Name, changed.Into = "other", "other"
	w.replay(changed)
	w.wantEach("other", 1, w.those(w.object("one", "a")))
	w.replay(opts)
	require.Equal(t, slices.Sorted(maps.Keys(w.want)), slices.Sorted(maps.Keys(w.ids("filled"))))
}
