package kafka

import (
	"context"
	"log/slog"
	"strings"
)

// quietHandler demotes the client's own messages by one level: franz-go says
// at info what it does for every transaction, and at error what it then tries
// again. What matters of these is reported by this package, once per change.
type quietHandler struct{ slog.Handler }

func quiet(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(quietHandler{log.Handler()})
}

func demoted(level slog.Level) slog.Level { return level - slog.LevelInfo + slog.LevelDebug }

func (h quietHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.Handler.Enabled(ctx, demoted(level))
}

// expected begins a message about the starting offsets of a new group, which
// are committed before the client takes its session for begun (CommitStart).
const expected = "received an OffsetCommitResponse after our group session has ended"

func (h quietHandler) Handle(ctx context.Context, record slog.Record) error {
	record.Level = demoted(record.Level)
	if strings.HasPrefix(record.Message, expected) {
		record.Level = slog.LevelDebug
		if !h.Handler.Enabled(ctx, record.Level) {
			return nil
		}
	}
	return h.Handler.Handle(ctx, record)
}

func (h quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quietHandler{h.Handler.WithAttrs(attrs)}
}

func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.Handler.WithGroup(name)}
}
