// Package stages runs stages of the pipeline within the process of a test, with
// the configuration that the binary would have. Nothing outside of tests imports
// it.
package stages

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/lifecycle"
	"github.com/auditstream/auditstream/services/auditstream/stack"
)

// patience bounds how long a stage may take to end.
const patience = 90 * time.Second

// Config is that of a pipeline of its own: its group and the prefix of its topics
// are made of the name, and an instance that dies is soon known to be gone.
func Config(brokers []string, name string) config.Config {
	cfg := config.Default()
	cfg.Kafka.Brokers, cfg.Kafka.Group, cfg.Kafka.Instance = brokers, name, "test"
	cfg.Kafka.SessionTimeout, cfg.Kafka.TransactionTimeout = 6*time.Second, 10*time.Second
	cfg.Topics.Prefix, cfg.Topics.LineLimit = name+".", 64<<10
	return cfg
}

// Run runs stages until stop is called, or else the test is over. Each has to
// end in order then. Without a registry each has one of its own.
func Run(t testing.TB, cfg config.Config, log *slog.Logger, registry *prometheus.Registry, names ...config.Command) (stop func()) {
	t.Helper()
	var tasks []lifecycle.Task
	for _, name := range names {
		opts := stack.Options{Log: log, Registry: registry, Health: telemetry.NewHealth(log)}
		if registry == nil {
			opts.Registry = prometheus.NewRegistry()
		}
		made, err := stack.NewStage(t.Context(), name, cfg, opts)
		require.NoError(t, err)
		tasks = append(tasks, made...)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, len(tasks))
	for _, task := range tasks {
		go func() { ended <- task.Run(ctx) }()
	}
	stopped := false
	stop = func() {
		t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		for range tasks {
			select {
			case err := <-ended:
				require.NoError(t, err)
			case <-time.After(patience):
				require.FailNow(t, "a stage does not end")
			}
		}
	}
	t.Cleanup(stop)
	return stop
}
