package delay

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		require.True(t, For(t.Context(), time.Hour))
		require.Equal(t, time.Hour, time.Since(begun))

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.False(t, For(ctx, time.Hour))
		require.Equal(t, time.Hour+time.Minute, time.Since(begun))
		require.False(t, For(ctx, time.Hour), "it is done already")
		require.Equal(t, time.Hour+time.Minute, time.Since(begun))
	})
}
