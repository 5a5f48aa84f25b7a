package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/embedded"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/topics"
)

// body is what url answers, with its status.
func body(t *testing.T, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

// startSink starts the stage and returns where its admin server is, and all
// that it writes later.
func startSink(t *testing.T, file string) (child *exec.Cmd, admin string, rest <-chan string) {
	t.Helper()
	child = program(t, nil, "-c", file, "sink")
	stderr, err := child.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() { _ = child.Process.Kill() })
	lines := bufio.NewReader(stderr)
	_, admin, _ = strings.Cut(strings.TrimSpace(waitLine(t, lines, "admin server listens")), "address=")
	all := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(lines)
		all <- string(text)
	}()
	return child, "http://" + admin, all
}

// Commands and stage over two shards. With one of them killed the sink is alive
// and not ready and says which it is; told to stop it ends soon, with an error,
// since a batch is not in; its next start leaves nothing undone.
func TestSinkOverTwoShards(t *testing.T) {
	broker, err := embedded.StartKafka(t.Context(), embedded.KafkaOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	folder := t.TempDir()
	start := func(port int) *embedded.ClickHouse {
		engine, err := embedded.StartClickHouse(t.Context(), embedded.ClickHouseOptions{Directory: filepath.Join(folder, "second"), TCPPort: port})
		require.NoError(t, err)
		return engine
	}
	first, err := embedded.StartClickHouse(t.Context(), embedded.ClickHouseOptions{Directory: filepath.Join(folder, "first")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, first.Close()) })
	second := start(0)
	t.Cleanup(func() { require.NoError(t, second.Close()) })
	file := filepath.Join(folder, "auditstream.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
kafka: {brokers: ["%s"], instance: sink-0, sessionTimeout: 6s}
clickhouse: {shards: [{addresses: ["%s"]}, {addresses: ["%s"]}]}
sink: {batchAge: 100ms}
admin: {address: "127.0.0.1:0"}
`, broker.Addresses()[0], first.Address(), second.Address()), 0o600))
	require.Equal(t, exitOK, command(t, nil, nil, "-c", file, "topics", "apply").code)
	differs := command(t, nil, nil, "-c", file, "schema", "diff")
	require.Equal(t, exitFailure, differs.code)
	require.Contains(t, differs.stdout, "shard 0: table kubernetes_audit_logs")
	require.Contains(t, differs.stdout, "shard 1: table kubernetes_audit_logs")
	require.Equal(t, exitOK, command(t, nil, nil, "-c", file, "schema", "apply").code)
	require.Equal(t, result{stdout: "shard 0: the table is as it should be\nshard 1: the table is as it should be\n"},
		command(t, nil, nil, "-c", file, "schema", "diff"))

	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addresses()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer client.Close()
	produced := 0
	produce := func(partition int32) {
		var records []*kgo.Record
		for range 50 {
			produced++
			row := event.Row{ID: strconv.Itoa(produced), ReceivedAt: uint32(time.Now().Unix())} //nolint:gosec // after 1970
			records = append(records, &kgo.Record{Topic: "normalized", Partition: partition, Value: topics.AppendNormalized(nil, &row)})
		}
		require.NoError(t, client.ProduceSync(t.Context(), records...).FirstErr())
	}
	committed := func(partition int32, want int64) {
		t.Helper()
		require.Eventually(t, func() bool {
			offsets, err := kadm.NewClient(client).FetchOffsets(t.Context(), "auditstream-sink")
			at, found := offsets.Lookup("normalized", partition)
			return err == nil && found && at.At == want
		}, patience, 50*time.Millisecond)
	}
	rowsOf := func(address string) (rows uint64) {
		connection, err := clickhouse.Connect(config.ClickHouse{Addresses: []string{address}, Username: "default"}, nil)
		require.NoError(t, err)
		defer connection.Close()
		require.NoError(t, connection.QueryRow(t.Context(), "SELECT uniqExact(id) FROM kubernetes_audit_logs").Scan(&rows))
		return rows
	}

	produce(0)
	produce(1)
	child, admin, output := startSink(t, file)
	committed(0, 50)
	committed(1, 50)
	require.Eventually(t, func() bool { return status(t, admin+"/readyz") == http.StatusOK }, patience, 50*time.Millisecond)

	_, port, err := net.SplitHostPort(second.Address())
	require.NoError(t, err)
	require.NoError(t, second.Kill())
	require.NoError(t, second.Close())
	produce(0)
	produce(1)
	committed(0, 100)
	require.Eventually(t, func() bool {
		code, text := body(t, admin+"/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(text, "sink clickhouse shard 1")
	}, patience, 50*time.Millisecond)
	_, text := body(t, admin+"/readyz")
	require.NotContains(t, text, "shard 0")
	require.Equal(t, http.StatusOK, status(t, admin+"/healthz"))
	asked := time.Now()
	require.NoError(t, child.Process.Signal(syscall.SIGTERM))
	said := <-output
	require.Error(t, child.Wait())
	require.Equal(t, exitFailure, child.ProcessState.ExitCode(), said)
	require.Contains(t, said, "stopped before the batches of partitions [1] were confirmed")
	require.Less(t, time.Since(asked), 30*time.Second)

	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	second = start(number)
	child, _, output = startSink(t, file)
	committed(1, 100)
	require.NoError(t, child.Process.Signal(syscall.SIGTERM))
	said = <-output
	require.NoError(t, child.Wait(), said)
	require.Equal(t, uint64(100), rowsOf(first.Address()))
	require.Equal(t, uint64(100), rowsOf(second.Address()))
}
