package telemetry

import (
	"io"
	"log/slog"
	"strings"

	"github.com/auditstream/auditstream/pkg/config"
)

// NewLogger writes to w in the configured format. A level or format that the
// configuration would have refused counts as info and text.
func NewLogger(w io.Writer, cfg config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: level(cfg.Level)}
	if strings.EqualFold(cfg.Format, "json") {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func level(name string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return slog.LevelInfo
	}
	return l
}
