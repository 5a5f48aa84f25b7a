package replay_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/services/auditstream/replay"
	"github.com/auditstream/auditstream/services/sink"
	"github.com/auditstream/auditstream/tests/servers"
)

// Apache Kafka is stricter with groups, offsets and topics than the embedded
// broker: all that a replay asks of it, once.
func TestOnApacheKafka(t *testing.T) {
	w := newWorldOn(t, servers.ApacheKafka(t).Addresses())
	w.bucket(4, 300)
	table := w.cfg.ClickHouse.Table
	w.start(config.CommandFetcher, config.CommandEnricher, config.CommandSink)
	require.Eventually(t, func() bool { return w.count("SELECT uniqExact(id) FROM "+table) == 4*300 }, patience, poll)
	for id := range w.ids(table) {
		w.want[id] = true
	}
	opts := w.options(replay.FromRaw)
	killed := opts
	seen := dies(&killed, sink.StepInserted, 2)
	require.ErrorContains(t, w.fails(killed), "died")
	require.Positive(t, seen.Load())
	w.replay(opts)
	w.wantView()
	require.Equal(t, uint64(len(w.want)), w.count("SELECT count() FROM "+w.cfg.ClickHouse.View+" WHERE srcCity = 'Berlin'"))

	swap := w.swapOptions()
	swap.Name = "swap"
	swap.SwapHook = func(at replay.SwapStep) error {
		if at == replay.SwapAcknowledged {
			return errors.New("died")
		}
		return nil
	}
	require.ErrorContains(t, w.fails(swap), "died")
	swap.SwapHook = nil
	require.True(t, w.replay(swap).Swapped)
	w.wantView()

	again := w.options(replay.FromObjects)
	again.Name, again.Into = "objects", "objects"
	w.replay(again)
	w.wantEach("objects", 1, w.want)
	require.Empty(t, w.ownTopics())
}
