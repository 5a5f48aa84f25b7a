package sink

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/clickhouse"
)

// What the sink's user can't see can't be proved: it stands still, and does not
// insert for ever.
func TestRowsThatAreHidden(t *testing.T) {
	b := kfake(t, 1)
	b.produce(0, 100)
	b.crashed(StepIntended)
	var hidden atomic.Bool
	hidden.Store(true)
	b.wrap = func(inner Table) Table { return &curtained{inner, &hidden} }
	r := b.start(nil)
	r.wantIll(r.component(0), "row policy")
	hidden.Store(false)
	b.wantCommitted()
	require.NoError(t, r.stop())
	require.LessOrEqual(t, valueOf(t, r.service.metrics.reattempts), float64(1))
}

type curtained struct {
	Table
	hidden *atomic.Bool
}

func (b *curtained) Present(ctx context.Context, keys []clickhouse.RowKey) ([]bool, error) {
	if b.hidden.Load() {
		return make([]bool, len(keys)), nil
	}
	return b.Table.Present(ctx, keys)
}

// A log that was cut below what was read stops its partition, with the range.
func TestTruncatedLog(t *testing.T) {
	for name, accept := range map[string]bool{"stops": false, "accepted": true} {
		t.Run(name, func(t *testing.T) {
			b := kfake(t, 2)
			b.accept = accept
			b.produce(0, 100)
			b.produce(1, 100)
			r := b.start(nil)
			b.wantAll()
			_, err := r.service.fetchErrors(t.Context(), kgo.Fetches{{Topics: []kgo.FetchTopic{{
				Topic:      b.names.Normalized,
				Partitions: []kgo.FetchPartition{{Partition: 0, Err: &kgo.ErrDataLoss{Topic: b.names.Normalized, Partition: 0, ConsumedTo: 100, ResetTo: 60}}},
			}}}})
			require.NoError(t, err)
			var gap *GapError
			if accept {
				require.ErrorAs(t, r.wait(), &gap)
				return
			}
			r.wantIll(r.component(0), "[60,100)")
			b.produce(1, 100)
			require.Eventually(t, func() bool { return b.committed(1) == 200 }, patience, 10*time.Millisecond)
			require.NoError(t, r.stop())
		})
	}
}

// Told to stop in the middle of its work it ends soon, and leaves no intent and
// no row behind.
func TestStopUnderLoad(t *testing.T) {
	b := kfake(t, 3)
	stop := make(chan struct{})
	for partition := range int32(3) {
		b.produce(partition, 3000)
	}
	var once atomic.Bool
	r := b.start(func(_ int32, step Step) error {
		if step == StepIntended && once.CompareAndSwap(false, true) {
			close(stop)
		}
		return nil
	})
	<-stop
	asked := time.Now()
	require.NoError(t, r.stop())
	require.Less(t, time.Since(asked), shutdownGrace)
	offsets, err := b.admin.FetchOffsets(t.Context(), b.group)
	require.NoError(t, err)
	done := int64(0)
	for _, at := range offsets[b.names.Normalized] {
		m, err := decodeMetadata(at.At, at.Metadata)
		require.NoError(t, err)
		require.Nil(t, m.Intent)
		done += at.At
	}
	require.Less(t, done, int64(9000), "all was done before it was asked to stop")
	require.Len(t, b.ids(), int(done))
	r = b.start(nil)
	b.wantAll()
	require.NoError(t, r.stop())
}

// What passes by itself is tried again, and holds back nothing for good.
func TestPassingRefusalsAreTriedAgain(t *testing.T) {
	for name, settings := range map[string][2]string{
		"too many parts":    {"parts_to_delay_insert = 1, parts_to_throw_insert = 1", "parts_to_delay_insert = 1000, parts_to_throw_insert = 3000"},
		"not enough space":  {"min_free_disk_bytes_to_perform_insert = 1000000000000000", "min_free_disk_bytes_to_perform_insert = 0"},
		"too many versions": {"max_parts_in_total = 1", "max_parts_in_total = 100000"},
	} {
		t.Run(name, func(t *testing.T) {
			b := kfake(t, 1)
			b.produce(0, 100)
			r := b.start(nil)
			b.wantAll()
			b.exec("ALTER TABLE " + b.table() + " MODIFY SETTING " + settings[0])
			b.produce(0, 200)
			r.wantIll("sink clickhouse", "code: ")
			require.NoError(t, r.health.get(r.component(0)), "nobody has to act")
			require.Less(t, b.committed(0), int64(300))
			b.exec("ALTER TABLE " + b.table() + " MODIFY SETTING " + settings[1])
			b.wantAll()
			require.NoError(t, r.stop())
		})
	}
}
