package exactlyonce

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/auditstream/auditstream/tests/servers"
)

// replayKills is how often a replay dies before it may come to its end.
const replayKills = 3

// TestReplayKills kills a replay with a swap again and again, while the pipeline
// works and objects keep coming: in the end every line is a row of the table
// that took the old one's place, and people see each once.
func TestReplayKills(t *testing.T) {
	engine := servers.OwnClickHouse(t)
	p := newPipeline(t, servers.Kafka(t), engine)
	feed := newFeeder(t, p)
	for _, stage := range []string{"fetcher", "enricher", "sink"} {
		startStage(t, p.binary, p.config, stage, stage+"-1").waitReady(t)
	}
	// A steady trickle: the replay has to come to an end.
	begun := time.Now()
	feed.backlog = func() int64 {
		return min(p.rows(t), int64(time.Since(begun).Seconds()*500))
	}
	feeding, stopFeeding := context.WithCancel(t.Context())
	defer stopFeeding()
	var feeder errgroup.Group
	feeder.Go(func() error { return feed.run(feeding) })
	eventually(t, time.Minute, "there is something to replay", func() bool { return p.rows(t) > 10_000 })

	arguments := []string{"replay", "--config", p.config, "--from", "raw", "--into", "fresh", "--swap", "--rate", "8000"}
	killed, failed := 0, 0
	for killed < replayKills {
		// The embedded engine dies with most clients that die while they insert.
		require.NoError(t, engine.Engine.WaitReady(t.Context()))
		replay := command(t, p.binary, arguments...)
		var output bytes.Buffer
		replay.Stdout, replay.Stderr = &output, &output
		require.NoError(t, replay.Start())
		ended := make(chan error, 1)
		go func() { ended <- replay.Wait() }()
		// A dead process is a member of the group for 6 s; then the next one works.
		wait := 300*time.Millisecond + rand.N(2*time.Second)
		if killed > 0 {
			wait += 6 * time.Second
		}
		select {
		case err := <-ended:
			if err != nil {
				require.Less(t, failed, 10, output.String())
				failed++
				t.Logf("it failed:\n%s", tail(output.Bytes(), 300))
				continue
			}
			require.Positive(t, killed, "it was never killed")
			killed = replayKills
			t.Logf("it ended before all kills:\n%s", tail(output.Bytes(), 1_000))
		case <-time.After(wait):
			require.NoError(t, replay.Process.Kill())
			<-ended
			killed++
			t.Logf("killed the replay, %d of %d, after:\n%s", killed, replayKills, tail(output.Bytes(), 400))
		}
	}
	require.NoError(t, engine.Engine.WaitReady(t.Context()))
	t.Logf("%s", tail([]byte(p.run(t, arguments...)), 1_500))
	stopFeeding()
	require.NoError(t, feeder.Wait())
	eventually(t, 3*time.Minute, "every line has come through", func() bool {
		return p.rows(t) >= int64(len(feed.rows)) && p.idle(t)
	})
	compareSets(t, "rows", feed.rows, p.idsOf(t, "audit_events"))
	compareSets(t, "dead letters", feed.bad, p.deadLetterIDs(t))
}
