package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/embedded"
)

// patience bounds every wait for another process.
const patience = 60 * time.Second

// program starts this binary as the program itself.
func program(t *testing.T, environ []string, arguments ...string) *exec.Cmd {
	t.Helper()
	executable, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	t.Cleanup(cancel)
	child := exec.CommandContext(ctx, executable, arguments...)
	child.Dir = t.TempDir()
	child.Env = append([]string{asProgram + "=1", "HOME=" + os.Getenv("HOME"), "PATH=" + os.Getenv("PATH")}, environ...)
	return child
}

// waitLine reads until a line holds text.
func waitLine(t *testing.T, lines *bufio.Reader, text string) string {
	t.Helper()
	var all strings.Builder
	for {
		line, err := lines.ReadString('\n')
		all.WriteString(line)
		require.NoError(t, err, "no %q in:\n%s", text, &all)
		if strings.Contains(line, text) {
			return line
		}
	}
}

func status(t *testing.T, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}

// A stage whose broker is away runs, is not ready, and ends well when told to.
func TestStageWithoutBrokerEndsOnSignal(t *testing.T) {
	for _, stage := range []string{"fetcher", "enricher", "sink"} {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			child := program(t, []string{
				"AUDITSTREAM_KAFKA_BROKERS=127.0.0.1:1",
				"AUDITSTREAM_CLICKHOUSE_ADDRESSES=127.0.0.1:1",
				"AUDITSTREAM_ADMIN_ADDRESS=127.0.0.1:0",
				"AWS_EC2_METADATA_DISABLED=true", "AWS_REGION=us-east-1",
			}, "-c", "auditstream.yaml", stage)
			require.NoError(t, os.WriteFile(child.Dir+"/auditstream.yaml", []byte("sources: [{id: a, bucket: logs}]\n"), 0o600))
			stderr, err := child.StderrPipe()
			require.NoError(t, err)
			require.NoError(t, child.Start())
			lines := bufio.NewReader(stderr)
			line := waitLine(t, lines, "admin server listens")
			_, address, _ := strings.Cut(strings.TrimSpace(line), "address=")
			require.Equal(t, http.StatusOK, status(t, "http://"+address+"/healthz"))
			require.Equal(t, http.StatusServiceUnavailable, status(t, "http://"+address+"/readyz"))
			require.NoError(t, child.Process.Signal(syscall.SIGTERM))
			rest, err := io.ReadAll(lines)
			require.NoError(t, err)
			require.NoError(t, child.Wait(), string(rest))
			require.Contains(t, string(rest), "finishing what is under way")
		})
	}
}

func TestAdminPortInUse(t *testing.T) {
	var listen net.ListenConfig
	taken, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	got := command(t, []string{"AUDITSTREAM_ADMIN_ADDRESS=" + taken.Addr().String()}, nil, "up")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.stderr, "address "+taken.Addr().String()+" is in use by another process; set admin.address")
}

func TestNormalizeStopsWhenItsReaderDoes(t *testing.T) {
	event := `{"kind":"Event","auditID":"a","stage":"ResponseComplete","verb":"get"}` + "\n"
	child := program(t, nil, "normalize")
	child.Stdin = strings.NewReader(strings.Repeat(event, 20_000))
	var stderr bytes.Buffer
	child.Stderr = &stderr
	stdout, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	_, err = io.ReadFull(stdout, make([]byte, 100))
	require.NoError(t, err)
	require.NoError(t, stdout.Close())
	// The copy into the child's standard input breaks as well, which Wait reports.
	_ = child.Wait()
	require.Equal(t, exitOK, child.ProcessState.ExitCode(), stderr.String())
	require.Empty(t, stderr.String())
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	var stderr bytes.Buffer
	exited := make(chan int, 1)
	ctx, release := untilSignal(&stderr, func(code int) { exited <- code })
	self, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)
	require.NoError(t, self.Signal(syscall.SIGTERM))
	<-ctx.Done()
	require.Empty(t, exited)
	require.NoError(t, self.Signal(syscall.SIGINT))
	require.Equal(t, exitSecondSignal, <-exited)
	release()
	require.Contains(t, stderr.String(), "terminated: finishing what is under way")
}

func TestTopicsApply(t *testing.T) {
	broker, err := embedded.StartKafka(t.Context(), embedded.KafkaOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	environ := []string{"AUDITSTREAM_KAFKA_BROKERS=" + broker.Addresses()[0], "AUDITSTREAM_TOPICS_PREFIX=audit."}

	planned := command(t, environ, nil, "topics", "apply", "--dry-run")
	require.Equal(t, exitFailure, planned.code, "there are differences")
	require.Empty(t, planned.stderr)
	require.Contains(t, planned.stdout, "audit.objects: create, partitions 4")
	applied := command(t, environ, nil, "topics", "apply")
	require.Equal(t, result{stdout: planned.stdout}, applied, "the dry run did nothing")
	require.Equal(t, exitOK, command(t, environ, nil, "topics", "apply", "--dry-run").code)
	again := command(t, environ, nil, "topics", "apply")
	require.Equal(t, result{stdout: "topics are as configured\n"}, again)

	grown := command(t, append(environ, "AUDITSTREAM_TOPICS_RAW_PARTITIONS=6"), nil, "topics", "apply")
	require.Equal(t, exitOK, grown.code, grown.stderr)
	require.Equal(t, "audit.raw: partitions 4 → 6\n", grown.stdout)

	for _, arguments := range [][]string{{"topics", "apply"}, {"topics", "apply", "--dry-run"}} {
		refused := command(t, append(environ, "AUDITSTREAM_TOPICS_RAW_PARTITIONS=7", "AUDITSTREAM_TOPICS_OBJECTS_PARTITIONS=8"), nil, arguments...)
		require.Equal(t, exitFailure, refused.code)
		require.Equal(t, 1, strings.Count(refused.stdout+refused.stderr, "audit.objects: partitions is 4, configured 8"), "said once")
		require.Contains(t, refused.stderr, "audit.objects: partitions is 4, configured 8")
		require.Equal(t, len(arguments) == 3, strings.Contains(refused.stdout, "audit.raw: partitions 6 → 7"), "only what is to be done")
	}
}

// Commands that prepare a server wait for it to come up.
func TestTopicsAndSchemaWaitForTheirServers(t *testing.T) {
	var listen net.ListenConfig
	free := func() string {
		taken, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, taken.Close())
		return taken.Addr().String()
	}
	// run starts the command and gives its outcome, and waits until it waits.
	run := func(environ []string, arguments ...string) <-chan result {
		waits := &notified{until: "waiting", found: make(chan struct{})}
		outcome := make(chan result, 1)
		go func() {
			var stdout bytes.Buffer
			app := &application{stdin: strings.NewReader(""), stdout: &stdout, stderr: waits, environ: environ}
			code := app.execute(t.Context(), arguments)
			outcome <- result{code: code, stdout: stdout.String(), stderr: waits.String()}
		}()
		select {
		case <-waits.found:
		case got := <-outcome:
			t.Fatalf("it did not wait: %+v", got)
		}
		return outcome
	}
	address := free()
	outcome := run([]string{"AUDITSTREAM_KAFKA_BROKERS=" + address}, "topics", "apply")
	broker, err := embedded.StartKafka(t.Context(), embedded.KafkaOptions{Address: address})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	got := <-outcome
	require.Equal(t, exitOK, got.code, got.stderr)
	require.Contains(t, got.stdout, "objects: create")

	// Of the table: nothing listens to the end.
	got = <-run([]string{"AUDITSTREAM_CLICKHOUSE_ADDRESSES=" + free()}, "schema", "apply", "--timeout", "2s")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.stderr, "deadline exceeded")
	require.Equal(t, 1, strings.Count(got.stderr, "waiting"))
}

// notified is a buffer that tells when a text is in it.
type notified struct {
	mu    sync.Mutex
	text  strings.Builder
	until string
	found chan struct{}
	done  bool
}

func (n *notified) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	written, err := n.text.Write(p)
	if !n.done && strings.Contains(n.text.String(), n.until) {
		n.done = true
		close(n.found)
	}
	return written, err
}

func (n *notified) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

func TestTopicsApplyWithoutBroker(t *testing.T) {
	got := command(t, []string{"AUDITSTREAM_KAFKA_BROKERS=127.0.0.1:1"}, nil, "topics", "apply", "--timeout", "2s")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.stderr, "127.0.0.1:1")
}

func TestSchemaCommands(t *testing.T) {
	engine, err := embedded.StartClickHouse(t.Context(), embedded.ClickHouseOptions{Directory: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	environ := []string{"AUDITSTREAM_CLICKHOUSE_ADDRESSES=" + engine.Address(), "AUDITSTREAM_CLICKHOUSE_DATABASE=audit"}

	missing := command(t, environ, nil, "schema", "diff")
	require.Equal(t, exitFailure, missing.code)
	require.NotEmpty(t, missing.stdout)
	require.Empty(t, missing.stderr)
	applied := command(t, environ, nil, "schema", "apply")
	require.Equal(t, exitOK, applied.code, applied.stderr)
	require.Contains(t, applied.stdout, "done: ")
	same := result{stdout: "the table is as it should be\n"}
	require.Equal(t, same, command(t, environ, nil, "schema", "diff"))
	require.Equal(t, same, command(t, environ, nil, "schema", "apply"))
}
