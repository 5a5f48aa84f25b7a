package replay_test

import (
	"errors"
	"maps"
	"slices"
	"sync"
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
	var intended sync.WaitGroup // in every partition, so that none is begun by other rules
	intended.Add(int(w.cfg.Topics.Raw.Partitions))
	killed.Hook = func(_ int32, at sink.Step) error {
		switch at {
		case sink.StepIntended:
			intended.Done()
			intended.Wait()
		case sink.StepInserted:
			return errors.New("died")
		}
		return nil
	}
	require.ErrorContains(t, w.fails(killed), "died")

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
