package fetcher_test

import (
	"bytes"
	"compress/gzip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/tests/servers"
)

// An object much larger than the memory that is used to carry it.
func TestFlatMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 512 MiB; left out with -short")
	}
	const (
		size  = 512 << 20
		most  = 256 << 20 // broker included: it keeps compressed batches in memory
		width = 1024
	)
	w := newWorld(t, servers.EmbeddedKafka(t, "").Addresses()...)
	var content bytes.Buffer
	writer, err := gzip.NewWriterLevel(&content, gzip.BestSpeed)
	require.NoError(t, err)
	line := []byte(strings.Repeat("audit", width/5) + "\n")
	lines := size / len(line)
	for range lines {
		_, err := writer.Write(line)
		require.NoError(t, err)
	}
	require.NoError(t, writer.Close())
	t.Logf("%d MiB in %d KiB of gzip", size>>20, content.Len()>>10)
	w.put("logs/giant", content.Bytes())
	content = bytes.Buffer{}

	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	r := w.start(func(o *fetcher.Options) { o.Config.SliceSize = 32 << 20 })
	var peak uint64
	require.Eventually(t, func() bool {
		runtime.ReadMemStats(&now)
		peak = max(peak, now.HeapAlloc)
		return r.metric("auditstream_fetcher_objects_total", "done") == 1
	}, 4*time.Minute, 50*time.Millisecond)
	elapsed := time.Since(began)
	t.Logf("heap %d MiB at most, %d MiB before; %.0f MB/s", peak>>20, before.HeapAlloc>>20, size/elapsed.Seconds()/1e6)
	require.Less(t, peak-before.HeapAlloc, uint64(most))
	require.EqualValues(t, lines, r.metric("auditstream_fetcher_lines_total"))
	require.GreaterOrEqual(t, r.metric("auditstream_fetcher_objects_total", "continued"), float64(size/(32<<20)-1))
}
