package split

import (
	"context"
	"io"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// What is there of a chunk is given while the source is slow to fill it; and in
// a hurry nothing is waited for, and nothing lost.
func TestReadAheadOfASlowSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, store := io.Pipe()
		r := newReadAhead(newAhead(1<<20), source)
		soon, cancel := context.WithCancel(t.Context())
		done := r.hurryAfter(soon)
		buffer := make([]byte, 3)
		for _, text := range []string{"abc", "de"} {
			_, err := store.Write([]byte(text))
			require.NoError(t, err)
			synctest.Wait()
		}
		for _, text := range []string{"abc", "de"} {
			n, err := r.Read(buffer)
			require.NoError(t, err)
			require.Equal(t, text, string(buffer[:n]))
		}
		cancel()
		n, err := r.Read(buffer)
		require.Equal(t, errPaused, err)
		require.Zero(t, n)
		done()
		go func() {
			_, _ = store.Write([]byte("fghi"))
			_ = store.Close()
		}()
		rest, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, "fghi", string(rest))
		r.close()
		require.Equal(t, 8, r.shared.left, "all memory is given back")
	})
}
