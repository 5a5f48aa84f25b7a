package backfill_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/services/fetcher/backfill"
	"github.com/auditstream/auditstream/services/fetcher/intake"
)

// bucket is one of numbered keys in folders, which it makes up as it lists.
type bucket struct {
	folders, each int
	listed        atomic.Int64
	fail          func(startAfter string) error // before a listing begins
}

func (b *bucket) key(i int) string { return fmt.Sprintf("%03d/%09d", i/b.each, i%b.each) }

func (b *bucket) List(_ context.Context, _, _, startAfter string, yield func(objectstore.Listed) error) error {
	if b.fail != nil {
		if err := b.fail(startAfter); err != nil {
			return err
		}
	}
	first := 0
	for low, high := 0, b.folders*b.each; low < high; first = low {
		if middle := (low + high) / 2; b.key(middle) <= startAfter {
			low = middle + 1
		} else {
			high = middle
		}
	}
	for i := first; i < b.folders*b.each; i++ {
		b.listed.Add(1)
		if err := yield(objectstore.Listed{Key: b.key(i), ETag: "e", Size: 1}); err != nil {
			return err
		}
	}
	return nil
}

func (b *bucket) Prefixes(_ context.Context, _, prefix, _ string) ([]string, bool, error) {
	if prefix != "" {
		return nil, false, nil
	}
	var all []string
	for folder := range b.folders {
		all = append(all, fmt.Sprintf("%03d/", folder))
	}
	return all, false, nil
}

// rotated is a store that lists the last folder first.
type rotated struct{ *bucket }

func (r rotated) last() string { return fmt.Sprintf("%03d/", r.folders-1) }

func (r rotated) Prefixes(ctx context.Context, name, prefix, delimiter string) ([]string, bool, error) {
	all, more, err := r.bucket.Prefixes(ctx, name, prefix, delimiter)
	if len(all) > 0 {
		all = append([]string{r.last()}, all[:len(all)-1]...)
	}
	return all, more, err
}

func (r rotated) List(ctx context.Context, name, prefix, startAfter string, yield func(objectstore.Listed) error) error {
	for _, first := range []bool{true, false} {
		err := r.bucket.List(ctx, name, prefix, startAfter, func(listed objectstore.Listed) error {
			if strings.HasPrefix(listed.Key, r.last()) != first {
				return nil
			}
			return yield(listed)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Ranges are ranges only where keys are listed in order. Elsewhere nothing is
// taken for announced.
func TestAStoreThatListsOutOfOrder(t *testing.T) {
	b, c := &bucket{folders: 4, each: 10}, &counter{}
	opts := options(t, b, c)
	opts.Lister = rotated{b}
	_, err := backfill.Run(t.Context(), opts)
	require.ErrorIs(t, err, backfill.ErrOrder)
}

// counter is a log that takes everything at once.
type counter struct {
	announced atomic.Int64
	each      func(int64)
}

func (c *counter) Announce(_ context.Context, _ intake.Found, done func(error)) {
	n := c.announced.Add(1)
	if c.each != nil {
		c.each(n)
	}
	done(nil)
}

func options(t *testing.T, b *bucket, c *counter) backfill.Options {
	return backfill.Options{
		Job:     backfill.Job{Source: "a", Store: "s", Bucket: "b"},
		Selects: func(string) bool { return true }, Lister: b, Announcer: c, File: filepath.Join(t.TempDir(), "progress.json"),
	}
}

// However many keys there are, memory holds a stretch of each part.
func TestMillionsOfKeysInFlatMemory(t *testing.T) {
	const folders, each = 40, 50_000
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	b := &bucket{folders: folders, each: each}
	before := heap()
	var most uint64
	var mu sync.Mutex
	c := &counter{each: func(n int64) {
		if n%200_000 == 0 {
			mu.Lock()
			most = max(most, heap())
			mu.Unlock()
		}
	}}
	totals, err := backfill.Run(t.Context(), options(t, b, c))
	require.NoError(t, err)
	require.EqualValues(t, folders*each, totals.Announced)
	require.EqualValues(t, folders*each, c.announced.Load())
	require.Less(t, b.listed.Load(), int64(folders*each+2*folders), "no key is listed twice, but those that end a part")
	require.NotZero(t, most)
	require.Less(t, most, before+(16<<20))
}

// A store that is away for a while is waited for, and the listing goes on where
// it was; one that stays away ends it.
func TestStoreAwayForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Int64
		b := &bucket{folders: 4, each: 3000}
		b.fail = func(string) error {
			if away.Add(1)%3 != 0 {
				return fmt.Errorf("slow down: %w", objectstore.ErrUnavailable)
			}
			return nil
		}
		c := &counter{}
		totals, err := backfill.Run(t.Context(), options(t, b, c))
		require.NoError(t, err)
		require.EqualValues(t, 12_000, totals.Announced)
		require.EqualValues(t, 12_000, c.announced.Load())
		require.Greater(t, away.Load(), int64(5))

		began := time.Now()
		b.fail = func(string) error { return objectstore.ErrUnavailable }
		opts := options(t, b, c)
		_, err = backfill.Run(t.Context(), opts)
		require.ErrorIs(t, err, objectstore.ErrUnavailable)
		require.FileExists(t, opts.File)
		require.Greater(t, time.Since(began), 10*time.Second)
		require.Less(t, time.Since(began), 2*time.Minute)

		other := errors.New("forbidden")
		b.fail = func(string) error { return other }
		began = time.Now()
		_, err = backfill.Run(t.Context(), opts)
		require.ErrorIs(t, err, other)
		require.Zero(t, time.Since(began), "what waiting does not mend is told at once")
	})
}

// known is a ledger; it remembers how much it was asked at once.
type known struct {
	ids   map[string]bool
	most  int
	mu    sync.Mutex
	fails error
}

func (k *known) Complete(_ context.Context, ids []string, since, until time.Time) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.most = max(k.most, len(ids))
	var found []string
	for _, id := range ids {
		if k.ids[id] && !since.After(until) {
			found = append(found, id)
		}
	}
	return found, k.fails
}

func TestWhatTheLedgerKnowsIsSpared(t *testing.T) {
	b, c := &bucket{folders: 3, each: 2500}, &counter{}
	k := &known{ids: make(map[string]bool)}
	for i := 0; i < 7500; i += 3 {
		k.ids[identity.ObjectID("s", "b", b.key(i), "e")] = true
	}
	opts := options(t, b, c)
	opts.Ledger = k
	totals, err := backfill.Run(t.Context(), opts)
	require.NoError(t, err)
	require.Equal(t, backfill.Totals{Listed: 7500, Announced: 5000, Complete: 2500, Bytes: 5000}, totals)
	require.EqualValues(t, 5000, c.announced.Load())
	require.LessOrEqual(t, k.most, 1000)

	k.fails = errors.New("away")
	_, err = backfill.Run(t.Context(), opts)
	require.ErrorIs(t, err, k.fails, "not asked is not known")
}
