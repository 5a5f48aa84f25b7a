package exactlyonce

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stageProcess is one instance of a stage: the real binary as a process of its
// own, started again after each kill with the same instance name.
type stageProcess struct {
	stage, binary, config, logPath, admin string

	mu      sync.Mutex
	command *exec.Cmd
	exited  chan struct{}
	stopped bool
	exit    error
}

func buildBinary(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "auditstream")
	command := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/auditstream/auditstream/services/auditstream")
	output, err := command.CombinedOutput()
	require.NoError(t, err, string(output))
	return binary
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	return address
}

func startStage(t *testing.T, binary, config, stage, instance string) *stageProcess {
	t.Helper()
	p := &stageProcess{
		stage: stage, binary: binary, config: config, admin: freeAddress(t),
		logPath: filepath.Join(t.TempDir(), stage+"-"+instance+".log"),
	}
	p.start(t, instance)
	t.Cleanup(func() {
		p.kill(t)
		if t.Failed() {
			log, _ := os.ReadFile(p.logPath)
			t.Logf("--- end of the log of %s\n%s", stage, tail(log, 6_000))
		}
	})
	return p
}

func tail(text []byte, limit int) []byte {
	if len(text) > limit {
		return text[len(text)-limit:]
	}
	return text
}

func (p *stageProcess) start(t *testing.T, instance string) {
	t.Helper()
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	command := exec.Command(p.binary, p.stage, "--config", p.config) //nolint:gosec // our own binary
	command.Env = append(os.Environ(), "AUDITSTREAM_ADMIN_ADDRESS="+p.admin, "AUDITSTREAM_KAFKA_INSTANCE="+instance)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, command.Start())
	exited := make(chan struct{})
	p.mu.Lock()
	p.command, p.exited, p.stopped = command, exited, false
	p.mu.Unlock()
	go func() {
		defer close(exited)
		defer func() { _ = log.Close() }()
		err := command.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.exit = err
		if !p.stopped {
			t.Errorf("%s ended by itself: %v", p.stage, err)
		}
	}()
}

// kill is SIGKILL: the process gets no chance to finish anything.
func (p *stageProcess) kill(t *testing.T) { p.end(t, syscall.SIGKILL) }

// terminate is SIGTERM and waits; it returns how the process ended.
func (p *stageProcess) terminate(t *testing.T) error {
	p.end(t, syscall.SIGTERM)
	return p.exit
}

func (p *stageProcess) end(t *testing.T, signal syscall.Signal) {
	t.Helper()
	p.mu.Lock()
	p.stopped = true
	command, exited := p.command, p.exited
	p.mu.Unlock()
	select {
	case <-exited:
		return
	default:
	}
	_ = command.Process.Signal(signal)
	select {
	case <-exited:
	case <-time.After(30 * time.Second):
		_ = command.Process.Kill()
		<-exited
		t.Errorf("%s did not end within 30 s of %v", p.stage, signal)
	}
}

// waitReady polls /readyz until it says 200.
func (p *stageProcess) waitReady(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, p.stage+" is ready", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/readyz", nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		defer func() { _ = response.Body.Close() }()
		return response.StatusCode == http.StatusOK
	})
}

// eventually asks until it is so; what is waited for is another process, so
// there is no event to wait on.
func eventually(t *testing.T, within time.Duration, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		select {
		case <-ticker.C:
		case <-t.Context().Done():
			t.Fatalf("cancelled while waiting: %s", what)
		}
	}
}
