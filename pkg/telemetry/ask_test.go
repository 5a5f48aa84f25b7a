package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
)

func TestAsk(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	health := NewHealth(log)
	listener, err := Listen(t.Context(), config.Admin{Address: "0.0.0.0:0"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- ServeListener(ctx, listener, NewRegistry(), health, log) }()
	defer func() { cancel(); require.NoError(t, <-served) }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)

	for _, host := range []string{"0.0.0.0", "", "127.0.0.1"} {
		said, err := Ask(t.Context(), config.Admin{Address: host + ":" + port}, "/readyz")
		require.NoError(t, err)
		require.Equal(t, "ready", said)
	}
	health.Report("the broker", errors.New("is away"))
	_, err = Ask(t.Context(), config.Admin{Address: listener.Addr().String()}, "/readyz")
	require.ErrorIs(t, err, ErrNotWell)
	require.ErrorContains(t, err, "the broker: is away")
	said, err := Ask(t.Context(), config.Admin{Address: listener.Addr().String()}, "/healthz")
	require.NoError(t, err)
	require.Equal(t, "ok", said)
}

func TestAskWhereNobodyIs(t *testing.T) {
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	_, err = Ask(t.Context(), config.Admin{Address: listener.Addr().String()}, "/healthz")
	require.Error(t, err)
	_, err = Ask(t.Context(), config.Admin{Address: "nonsense"}, "/healthz")
	require.Error(t, err)

	// One that accepts and says nothing.
	silent, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = Ask(ctx, config.Admin{Address: silent.Addr().String()}, "/healthz")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
