package telemetry_test

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/telemetry"
)

func TestQuiet(t *testing.T) {
	var said bytes.Buffer
	without := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	debug := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: without}))
	log := telemetry.Quiet(debug, slog.LevelInfo).With("a", 1).WithGroup("g")
	log.Debug("each request")
	log.Info("connected", "b", 2)
	log.Error("broken")
	require.Equal(t, "level=DEBUG msg=connected a=1 g.b=2\nlevel=DEBUG msg=broken a=1\n", said.String())

	said.Reset()
	info := slog.New(slog.NewTextHandler(&said, nil))
	telemetry.Quiet(info, slog.LevelDebug).Error("broken")
	telemetry.Quiet(nil, slog.LevelDebug).Error("broken")
	require.Empty(t, said.String())
}
