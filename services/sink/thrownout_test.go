package sink

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/tests/servers"
)

// heldAt starts a sink that has one batch in the table, and the next one held at
// a step until release.
func (b *bench) heldAt(step Step) (r *running, release func()) {
	b.t.Helper()
	var armed atomic.Bool
	reached, held := make(chan struct{}), make(chan struct{})
	r = b.start(func(_ int32, at Step) error {
		if at == step && armed.CompareAndSwap(true, false) {
			close(reached)
			<-held
		}
		return nil
	})
	release = sync.OnceFunc(func() { close(held) })
	b.t.Cleanup(release)
	b.produce(0, 100)
	b.wantAll()
	armed.Store(true)
	b.produce(0, 100)
	<-reached
	return r, release
}

// A member that was thrown out while it rejoined is another member: the
// partitions it had have gone further under others, and what it was about to
// commit would take them back.
func TestMemberThrownOutWhileItRejoins(t *testing.T) {
	for name, stays := range map[string]bool{"the other has left": false, "the other stays": true} {
		t.Run(name, func(t *testing.T) {
			kafka := servers.EmbeddedKafka(t, "")
			b := newBench(t, kafka.Addresses(), servers.ClickHouse(t), 1)
			first, release := b.heldAt(StepChosen)

			before := servers.GroupMembers(t, b.client, b.group)
			require.Len(t, before, 1)
			rejoin := servers.ThrowOut(t, kafka, b.client, b.group, before[0])
			second := b.start(nil)
			b.wantCommitted()
			b.produce(0, 60) // closed by age: the first would choose another end
			b.wantAll()
			if !stays {
				require.NoError(t, second.stop())
			}
			release()
			rejoin()
			if stays {
				require.Eventually(t, func() bool {
					return len(servers.GroupMembers(t, b.client, b.group)) == 2 && len(first.service.workerNumbers()) == 0
				}, patience, 10*time.Millisecond)
				require.NoError(t, second.stop())
			}
			b.produce(0, 40)
			b.wantAll()
			b.produce(0, 230)
			b.wantAll()
			require.NoError(t, first.stop())
			b.wantTable()
		})
	}
}

// A partition that stood still, and that others have mended meanwhile, goes on
// with the member that was thrown out, too.
func TestPartitionThatStoodStillGoesOnAfterOthersMendedIt(t *testing.T) {
	kafka := servers.EmbeddedKafka(t, "")
	b := newBench(t, kafka.Addresses(), servers.ClickHouse(t), 1)
	b.produce(0, 300)
	b.crashed(StepInserted)
	b.deleteTo(0, 40)
	first := b.start(nil)
	first.wantIll(first.component(0), "[0,40)")
	before := servers.GroupMembers(t, b.client, b.group)
	require.Len(t, before, 1)
	rejoin := servers.ThrowOut(t, kafka, b.client, b.group, before[0])
	b.accept = true
	second := b.start(nil)
	b.wantAll()
	require.NoError(t, second.stop())
	rejoin()
	b.produce(0, 100)
	b.wantAll()
	require.NoError(t, first.health.get(first.component(0)))
	require.NoError(t, first.stop())
}

// Asked to stop while it was about to begin anew, it says what it leaves open.
func TestStopOfAMemberThrownOutTellsOfItsIntent(t *testing.T) {
	kafka := servers.EmbeddedKafka(t, "")
	b := newBench(t, kafka.Addresses(), servers.ClickHouse(t), 1)
	first, release := b.heldAt(StepIntended)
	before := servers.GroupMembers(t, b.client, b.group)
	require.Len(t, before, 1)
	servers.ThrowOut(t, kafka, b.client, b.group, before[0])()
	require.Eventually(t, func() bool { return len(first.service.workerNumbers()) == 0 }, patience, time.Millisecond,
		"its worker is waited for")
	first.cancel()
	release()
	var open *OpenError
	require.ErrorAs(t, first.wait(), &open)
	require.Equal(t, []int32{0}, open.Partitions)
	second := b.start(nil)
	b.wantAll()
	require.NoError(t, second.stop())
}

// A stop does not wait for a group that takes its time to form.
func TestStopWhileTheGroupForms(t *testing.T) {
	kafka := servers.EmbeddedKafka(t, "")
	b := newBench(t, kafka.Addresses(), servers.ClickHouse(t), 1)
	asked, _ := servers.HoldJoins(t, kafka, func(string) bool { return true })
	first := b.start(nil)
	<-asked
	begun := time.Now()
	require.NoError(t, first.stop())
	require.Less(t, time.Since(begun), 3*leaveTimeout)
}
