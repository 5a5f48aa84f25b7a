package embedded

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	RunChildIfAsked()
	serveAsClickHouseIfAsked()
	runParentIfAsked()
	os.Exit(m.Run())
}

// testContext bounds what a test waits for, so that a hang fails with its
// place and not with the whole run's time limit.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func testLog(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
