package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/auditstream/auditstream/pkg/config"
)

// shutdownTimeout bounds how long requests under way hold up the end of a process.
const shutdownTimeout = 3 * time.Second

// Serve runs the admin server until ctx is done. Without an address there is
// none, and Serve only waits.
func Serve(ctx context.Context, cfg config.Admin, registry *prometheus.Registry, health *Health, log *slog.Logger) error {
	if cfg.Address == "" {
		<-ctx.Done()
		return nil
	}
	listener, err := Listen(ctx, cfg)
	if err != nil {
		return err
	}
	return ServeListener(ctx, listener, registry, health, log)
}

// Listen takes the admin address, so that one in use is known before anything
// else starts.
func Listen(ctx context.Context, cfg config.Admin) (net.Listener, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", cfg.Address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("admin server: address %s is in use by another process; set admin.address to a free one: %w",
			cfg.Address, err)
	}
	if err != nil {
		return nil, fmt.Errorf("admin server: listen on %s: %w", cfg.Address, err)
	}
	return listener, nil
}

// ServeListener is Serve on a listener, which it closes.
func ServeListener(
	ctx context.Context, listener net.Listener, registry *prometheus.Registry, health *Health, log *slog.Logger,
) error {
	server := &http.Server{
		Handler:           Handler(registry, health),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		// A CPU profile writes for as long as it was asked to, so there is no
		// write timeout that would cut it.
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext:    func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	log.Info("admin server listens", "address", listener.Addr().String())

	select {
	case err := <-served:
		return fmt.Errorf("admin server on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := server.Shutdown(finish)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close() // a request outlived its time; it must not outlive the process
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	if err != nil {
		return fmt.Errorf("close admin server on %s: %w", listener.Addr(), err)
	}
	return nil
}

// Handler answers /metrics, /healthz (the process runs), /readyz (and all it
// depends on is well) and /debug/pprof.
func Handler(registry *prometheus.Registry, health *Health) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.InstrumentMetricHandler(registry,
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry})))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := health.Ready(); err != nil {
			writeText(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		writeText(w, http.StatusOK, "ready")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusOK, "auditstream\n/metrics\n/healthz\n/readyz\n/debug/pprof/")
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// The client is gone when this fails, and there is no one left to tell.
	_, _ = w.Write([]byte(text + "\n"))
}
