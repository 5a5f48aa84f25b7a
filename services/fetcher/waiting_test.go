package fetcher_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/auditstream/auditstream/services/fetcher"
)

// Many objects that wait for a later try don't hold up one that can be read.
func TestManyThatWaitHoldUpNobody(t *testing.T) {
	w := newWorld(t)
	const waiting = 400
	for i := range waiting {
		w.announce(w.object(fmt.Sprintf("logs/missing-%d", i), "0123456789abcdef0123456789abcdef"))
	}
	r := w.start(func(o *fetcher.Options) {
		noListing(o)
		o.Config.Attempts = 10
		o.Config.Backoff = 4 * time.Minute
		o.Config.ObjectsPerTransaction = 20
	})
	require.Eventually(t, func() bool { return r.metric("auditstream_fetcher_retries_total") == waiting }, patience, 10*time.Millisecond)
	want := make(expected)
	text := numbered("good", 5_000, 300) // several links
	want.lines(w.put("logs/good", []byte(text)), text)
	w.announce(w.stored("logs/good"))
	w.requireRaw(want)
	ends, err := kadm.NewClient(w.client).ListEndOffsets(t.Context(), w.names.Objects)
	require.NoError(t, err)
	var written int64
	ends.Each(func(end kadm.ListedOffset) { written += end.Offset })
	require.Greater(t, r.metric("auditstream_fetcher_objects_total", "continued"), 3.0)
	require.Less(t, written, int64(waiting*20), "records in objects")
}
