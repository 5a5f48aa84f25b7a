package split

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/topics"
)

// refusing is a store that may take nothing new, while what is open goes on.
type refusing struct {
	objectStore
	away    atomic.Bool
	refused atomic.Int64
}

func (r *refusing) Open(ctx context.Context, ref objectstore.Ref, fromByte int64) (*objectstore.Body, error) {
	if r.away.Load() {
		r.refused.Add(1)
		return nil, fmt.Errorf("open %s: %w", ref, objectstore.ErrUnavailable)
	}
	return r.objectStore.Open(ctx, ref, fromByte)
}

func (r *refusing) Probe(ctx context.Context, bucket, prefix string) error {
	if r.away.Load() {
		return objectstore.ErrUnavailable
	}
	return r.objectStore.Probe(ctx, bucket, prefix)
}

// A store that is away makes no dead letters, however long what was asked of it
// before still comes in.
func TestAStoreThatIsAwayCostsNoTryWhileOpenStreamsGoOn(t *testing.T) {
	content := map[string][]byte{"large": []byte(strings.Repeat(strings.Repeat("x", 1000)+"\n", 2000))}
	for i := range 3 {
		content[fmt.Sprint("small ", i)] = []byte("one\ntwo\n")
	}
	bucket := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		object := content[strings.TrimPrefix(r.URL.Path, "/b/")]
		w.Header().Set("ETag", `"`+etagOf(object)+`"`)
		http.ServeContent(w, r, "", time.Unix(1_700_000_000, 0), strings.NewReader(string(object)))
	}))
	defer bucket.Close()
	defer bucket.CloseClientConnections()
	store := &refusing{objectStore: storeAt(t, bucket)}
	m := newModel(t, rand.New(rand.NewPCG(1, 1)), store)
	m.calm = true
	m.fetcher.SliceSize, m.fetcher.Concurrency, m.fetcher.OpenObjects, m.fetcher.Attempts = 32<<10, 4, 4, 3
	announce := func(key string) {
		etag := etagOf(content[key])
		m.announce(&topics.Object{
			ID: identity.ObjectID("a", "b", key, etag), Source: "s", Endpoint: "a", Bucket: "b", Key: key, ETag: etag,
			Size: int64(len(content[key])), FromLine: 1, Cause: topics.CauseListed,
		})
	}
	step := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		tx := &modelTransaction{m: m, records: m.poll()}
		if err := m.splitter.process(ctx, t.Context(), tx); err != nil {
			m.splitter.Aborted()
			return err
		}
		m.committed(tx)
		return nil
	}

	announce("large")
	m.start()
	defer func() { m.splitter.Close() }()
	require.NoError(t, step())
	require.NotEmpty(t, m.lines)
	require.Less(t, len(m.lines), 2000)
	for i := range 3 {
		announce(fmt.Sprint("small ", i))
	}
	store.away.Store(true)
	for len(m.lines) < 2000 {
		if err := step(); err != nil {
			require.ErrorIs(t, err, kafka.ErrAbort) // the large object had no part in it
		}
		require.Empty(t, m.letters)
	}
	require.Greater(t, store.refused.Load(), int64(3*m.fetcher.Attempts), "they were tried more often than they may be")
	require.ErrorIs(t, m.reported, objectstore.ErrUnavailable)
	err := step()
	for ; err == nil; err = step() {
		require.Empty(t, m.letters) // the end of the large one, and what waits
	}
	require.ErrorIs(t, err, kafka.ErrAbort)

	tries := 0
	for _, partition := range m.log {
		for _, record := range partition {
			object, err := topics.DecodeObject(record.Value)
			require.NoError(t, err)
			tries = max(tries, object.Attempt)
		}
	}
	require.Zero(t, tries, "what the store answered nobody was no try")

	store.away.Store(false)
	for end := time.Now().Add(time.Minute); !m.done(); {
		require.True(t, time.Now().Before(end), "it does not come to an end")
		require.NoError(t, step())
	}
	require.Len(t, m.lines, 2000+3*2)
	require.Empty(t, m.letters)
	require.NoError(t, m.reported)
}
