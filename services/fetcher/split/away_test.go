package split

import (
	"context"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/topics"
)

// refusing is a store of which buckets may take nothing new, while what is open
// goes on.
type refusing struct {
	objectStore
	away    sync.Map // bucket → chan struct{}, closed when it is back; nil: it refuses at once
	refused atomic.Int64
	failing atomic.Value // key of an object that alone is not given
}

func (r *refusing) leave(bucket string, hangs bool) {
	var back chan struct{}
	if hangs {
		back = make(chan struct{})
	}
	r.away.Store(bucket, back)
}

func (r *refusing) comeBack(bucket string) {
	back, _ := r.away.LoadAndDelete(bucket)
	if back, _ := back.(chan struct{}); back != nil {
		close(back)
	}
}

func (r *refusing) refuse(ctx context.Context, bucket string) error {
	back, away := r.away.Load(bucket)
	if !away {
		return nil
	}
	if back, _ := back.(chan struct{}); back != nil {
		select {
		case <-ctx.Done():
		case <-back:
		}
	}
	return fmt.Errorf("%w: %s is away", objectstore.ErrUnavailable, bucket)
}

func (r *refusing) Open(ctx context.Context, ref objectstore.Ref, fromByte int64) (*objectstore.Body, error) {
	if err := r.refuse(ctx, ref.Bucket); err != nil {
		r.refused.Add(1)
		return nil, fmt.Errorf("open %s: %w", ref, err)
	}
	if ref.Key == r.failing.Load() {
		return nil, fmt.Errorf("%w: internal error", objectstore.ErrUnavailable)
	}
	return r.objectStore.Open(ctx, ref, fromByte)
}

func (r *refusing) Probe(ctx context.Context, bucket, prefix string) error {
	if err := r.refuse(ctx, bucket); err != nil {
		return err
	}
	return r.objectStore.Probe(ctx, bucket, prefix)
}

// change has a bucket go away at times, and come back.
func (r *refusing) change(random *rand.Rand) {
	for _, bucket := range []string{"b", "c"} {
		switch _, away := r.away.Load(bucket); {
		case away && random.IntN(4) == 0:
			r.comeBack(bucket)
		case !away && random.IntN(12) == 0:
			r.leave(bucket, random.IntN(8) == 0)
		}
	}
}

// awayModel is a model of a calm broker over two sources, s of bucket b and o of
// bucket c, and the content of their objects by key.
func awayModel(t *testing.T, content map[string][]byte) (*model, *refusing) {
	bucket := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		object := content[key]
		w.Header().Set("ETag", `"`+etagOf(object)+`"`)
		http.ServeContent(w, r, "", time.Unix(1_700_000_000, 0), strings.NewReader(string(object)))
	}))
	t.Cleanup(bucket.Close)
	t.Cleanup(bucket.CloseClientConnections)
	real, err := objectstore.New(t.Context(), config.S3{
		Endpoint: bucket.URL, Alias: "a", Region: "r", PathStyle: true, AccessKeyID: "k", SecretAccessKey: "s",
	}, objectstore.Options{StallTimeout: 5 * time.Second})
	require.NoError(t, err)
	store := &refusing{objectStore: real}
	m := &model{
		t: t, random: rand.New(rand.NewPCG(1, 1)), store: store, names: topics.NewNames(""), seed: maphash.MakeSeed(), calm: true,
		lines: make(map[string]string), letters: make(map[string]topics.DeadLetterRecord),
		fetcher: config.Fetcher{
			SliceSize: 32 << 10, Concurrency: 4, OpenObjects: 4, DedupeHorizon: time.Hour, DedupeObjects: 1000,
			MaxObjectSize: 1 << 30, MaxExpansion: 1000, Attempts: 1, Backoff: time.Millisecond, StallTimeout: time.Second,
		},
	}
	t.Cleanup(func() { m.splitter.Close() })
	return m, store
}

func (m *model) announceOf(source, bucket, key string, content []byte) {
	etag := etagOf(content)
	m.announce(&topics.Object{
		ID: identity.ObjectID("a", bucket, key, etag), Source: source, Endpoint: "a", Bucket: bucket, Key: key, ETag: etag,
		Size: int64(len(content)), FromLine: 1, Cause: topics.CauseListed,
	})
}

// step is a transaction that the broker commits if the splitter does not abort it.
func (m *model) step(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(m.t.Context(), limit)
	defer cancel()
	tx := &modelTransaction{m: m, records: m.poll()}
	if err := m.splitter.process(ctx, m.t.Context(), tx); err != nil {
		m.splitter.Aborted()
		return err
	}
	m.committed(tx)
	return nil
}

func (m *model) finish() {
	for end := time.Now().Add(time.Minute); !m.done(); {
		require.True(m.t, time.Now().Before(end), "it does not come to an end")
		if err := m.step(10 * time.Second); err != nil {
			require.ErrorIs(m.t, err, kafka.ErrAbort) // until it is noticed that the store is back
		}
	}
}

func (m *model) sourcesAway() float64 {
	var written dto.Metric
	require.NoError(m.t, m.splitter.metrics.sourcesAway.Write(&written))
	return written.GetGauge().GetValue()
}

// A store that is away makes no dead letters, however long what was asked of it
// before still comes in.
func TestAStoreThatIsAwayCostsNoTryWhileOpenStreamsGoOn(t *testing.T) {
	content := map[string][]byte{"large": []byte(strings.Repeat(strings.Repeat("x", 1000)+"\n", 2000))}
	for i := range 3 {
		content[fmt.Sprint("small ", i)] = []byte("one\ntwo\n")
	}
	m, store := awayModel(t, content)
	m.announceOf("s", "b", "large", content["large"])
	m.start()
	require.NoError(t, m.step(10*time.Second))
	require.NotEmpty(t, m.lines)
	require.Less(t, len(m.lines), 2000)
	for i := range 3 {
		key := fmt.Sprint("small ", i)
		m.announceOf("s", "b", key, content[key])
	}
	store.leave("b", false)
	store.leave("c", false)
	for len(m.lines) < 2000 {
		if err := m.step(10 * time.Second); err != nil {
			require.ErrorIs(t, err, kafka.ErrAbort) // the large object had no part in it
		}
	}
	require.Positive(t, store.refused.Load())
	require.ErrorIs(t, m.health(), objectstore.ErrUnavailable)
	err := m.step(10 * time.Second)
	for err == nil { // the end of the large one, and what waits
		err = m.step(10 * time.Second)
	}
	require.ErrorIs(t, err, kafka.ErrAbort)
	require.Empty(t, m.letters)

	store.comeBack("b")
	store.comeBack("c")
	m.finish()
	require.Len(t, m.lines, 2000+3*2)
	require.Empty(t, m.letters)
	require.NoError(t, m.health())
}

// While one bucket is away, and be it that it only hangs, its objects wait and
// the others' go on, wherever in the topic they are.
func TestABucketThatIsAwayHoldsUpNoOther(t *testing.T) {
	const hanging, well = 60, 20
	content := map[string][]byte{"x": []byte("one\ntwo\n")}
	m, store := awayModel(t, content)
	announce := func(source, bucket string, number int) {
		for i := range number {
			key := fmt.Sprintf("%s %d", bucket, i)
			content[key] = []byte("one\ntwo\n")
			m.announceOf(source, bucket, key, content[key])
		}
	}
	announce("o", "c", hanging)
	announce("s", "b", well)
	m.start()
	store.leave("c", true)
	for end := time.Now().Add(time.Minute); len(m.lines) < 2*well; {
		require.True(t, time.Now().Before(end), "it does not come to the others")
		require.NoError(t, m.step(time.Second))
	}
	require.LessOrEqual(t, store.refused.Load(), int64(m.fetcher.Concurrency), "known to be away, it is asked in the background")
	require.ErrorContains(t, m.health(), "s3://c (source o)")
	require.InDelta(t, 1, m.sourcesAway(), 0)

	// With nobody left, nothing is put back.
	store.leave("b", false)
	m.announceOf("s", "b", "x", content["x"])
	err := m.step(time.Second)
	for end := time.Now().Add(time.Minute); err == nil; err = m.step(time.Second) {
		require.True(t, time.Now().Before(end), "it does not abort")
	}
	require.ErrorIs(t, err, kafka.ErrAbort)
	require.ErrorContains(t, m.health(), "s3://b (source s)")
	written := len(m.log[0]) + len(m.log[1])
	for range 10 {
		require.ErrorIs(t, m.step(time.Second), kafka.ErrAbort)
	}
	require.Len(t, append(m.log[0], m.log[1]...), written)

	store.comeBack("b")
	store.comeBack("c")
	m.finish()
	require.Len(t, m.lines, 2*(hanging+well)+2)
	require.Empty(t, m.letters)
	require.NoError(t, m.health())
	require.Zero(t, m.sourcesAway())
}

// An object that fails by itself loses tries, though its bucket's other objects
// are not asked for in the same transaction.
func TestAnObjectThatFailsByItselfLosesTries(t *testing.T) {
	m, store := awayModel(t, nil)
	m.announceOf("s", "b", "fails", []byte("one\n"))
	m.start()
	store.failing.Store("fails")
	require.NoError(t, m.step(10*time.Second))
	require.Len(t, m.letters, 1)
	for _, letter := range m.letters {
		require.Equal(t, topics.ReasonObjectUnavailable, letter.Reason)
	}
	require.NoError(t, m.health())
}
