package telemetry

import (
	"context"
	"log/slog"
)

// Quiet is the log for a library of which every complaint is also an error that
// comes back, or a try that is made again: what it says at the level or above is
// told at debug, and the rest is not. What matters of it is logged where it is
// decided on, once per change and not once per try.
func Quiet(log *slog.Logger, from slog.Level) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(quietHandler{log.Handler(), from})
}

type quietHandler struct {
	slog.Handler
	from slog.Level
}

func (h quietHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.from && h.Handler.Enabled(ctx, slog.LevelDebug)
}

func (h quietHandler) Handle(ctx context.Context, record slog.Record) error {
	record.Level = slog.LevelDebug
	return h.Handler.Handle(ctx, record)
}

func (h quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quietHandler{h.Handler.WithAttrs(attrs), h.from}
}

func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.Handler.WithGroup(name), h.from}
}
