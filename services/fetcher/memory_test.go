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

// An object much larger than the memory that is used to carry it: of lines, and
// one line that is a list.
func TestFlatMemory(t *testing.T) {
	line := strings.Repeat("audit", 204)
	t.Run("lines", func(t *testing.T) { flatMemory(t, "", line, "\n", "") })
	t.Run("list", func(t *testing.T) { flatMemory(t, "[", `{"a":"`+line+`"}`, ",", "null]") })
}

func flatMemory(t *testing.T, before, line, after, end string) {
	if testing.Short() {
		t.Skip("moves 512 MiB; left out with -short")
	}
	const (
		size = 512 << 20
		most = 256 << 20 // broker included: it keeps compressed batches in memory
	)
	w := newWorld(t, servers.EmbeddedKafka(t, "").Addresses()...)
	var content bytes.Buffer
	writer, err := gzip.NewWriterLevel(&content, gzip.BestSpeed)
	require.NoError(t, err)
	element := []byte(line + after)
	lines := size / len(element)
	_, err = writer.Write([]byte(before))
	require.NoError(t, err)
	for range lines {
		_, err := writer.Write(element)
		require.NoError(t, err)
	}
	if _, err := writer.Write([]byte(end)); end != "" {
		require.NoError(t, err)
		lines++
	}
	require.NoError(t, writer.Close())
	t.Logf("%d MiB in %d KiB of gzip", size>>20, content.Len()>>10)
	w.put("logs/giant", content.Bytes())
	content = bytes.Buffer{}

	runtime.GC()
	var atStart, now runtime.MemStats
	runtime.ReadMemStats(&atStart)
	began := time.Now()
	r := w.start(func(o *fetcher.Options) { o.Config.SliceSize = 32 << 20 })
	var peak uint64
	require.Eventually(t, func() bool {
		runtime.ReadMemStats(&now)
		peak = max(peak, now.HeapAlloc)
		return r.metric("auditstream_fetcher_objects_total", "done") == 1
	}, 4*time.Minute, 50*time.Millisecond)
	elapsed := time.Since(began)
	t.Logf("heap %d MiB at most, %d MiB before; %.0f MB/s", peak>>20, atStart.HeapAlloc>>20, size/elapsed.Seconds()/1e6)
	require.Less(t, peak-atStart.HeapAlloc, uint64(most))
	require.EqualValues(t, lines, r.metric("auditstream_fetcher_lines_total"))
	require.GreaterOrEqual(t, r.metric("auditstream_fetcher_objects_total", "continued"), float64(size/(32<<20)-1))
}
