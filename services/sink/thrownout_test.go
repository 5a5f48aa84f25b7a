package sink

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/tests/servers"
)

// A member that was thrown out while it rejoined is another member: the
// partitions it had have gone further under others, and what it was about to
// commit would take them back.
func TestMemberThrownOutWhileItRejoins(t *testing.T) {
	for name, stays := range map[string]bool{"the other has left": false, "the other stays": true} {
		t.Run(name, func(t *testing.T) {
			kafka := servers.EmbeddedKafka(t, "")
			b := newBench(t, kafka.Addresses(), servers.ClickHouse(t), 1)
			var armed atomic.Bool
			chosen, held := make(chan struct{}), make(chan struct{})
			first := b.start(func(_ int32, step Step) error {
				if step == StepChosen && armed.CompareAndSwap(true, false) {
					close(chosen)
					<-held
				}
				return nil
			})
			b.produce(0, 100)
			b.wantAll()
			armed.Store(true)
			b.produce(0, 100)
			<-chosen // and nothing is recorded

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
			close(held)
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
