package servers

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ApacheKafkaServer is a broker of Apache Kafka, KRaft, in a process of its
// own that ends with this one.
type ApacheKafkaServer struct {
	jars, folder, address string

	mutex   sync.Mutex
	command *exec.Cmd
	hold    io.WriteCloser // the pipe that the broker's life hangs on
	exited  chan struct{}
}

var sharedApacheKafka = sync.OnceValues(func() (*ApacheKafkaServer, error) {
	ctx, cancel := startContext()
	defer cancel()
	jars, err := kafkaJars(ctx)
	if err != nil {
		return nil, err
	}
	folder, err := sharedFolder("kafka")
	if err != nil {
		return nil, err
	}
	server := &ApacheKafkaServer{jars: jars, folder: folder}
	if err := server.format(ctx); err != nil {
		return nil, err
	}
	atEnd.add(server.Kill)
	if err := server.start(ctx); err != nil {
		return nil, err
	}
	return server, nil
})

// ApacheKafka returns the Apache Kafka broker of this test process. Tests
// that kill it must restart it and must not run beside others.
func ApacheKafka(t testing.TB) *ApacheKafkaServer {
	t.Helper()
	server, err := sharedApacheKafka()
	if errors.Is(err, errNoTools) {
		unavailable(t, "%v", err)
	}
	require.NoError(t, err)
	return server
}

// Addresses are the broker's, the same over restarts.
func (s *ApacheKafkaServer) Addresses() []string { return []string{s.address} }

// Kill ends the broker with SIGKILL and returns when it is gone.
func (s *ApacheKafkaServer) Kill() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.command == nil {
		return nil
	}
	_ = syscall.Kill(-s.command.Process.Pid, syscall.SIGKILL)
	<-s.exited
	_ = s.hold.Close()
	s.command = nil
	return s.waitGone()
}

// waitGone returns when the broker has let go of its address. It is the
// shell's child and not ours, so that there is no other way to wait for it.
func (s *ApacheKafkaServer) waitGone() error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		listener, err := net.Listen("tcp", s.address)
		if err == nil {
			return listener.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("killed Apache Kafka still holds %s: %w", s.address, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Restart starts a killed broker with its data and address, and returns when
// it answers.
func (s *ApacheKafkaServer) Restart(ctx context.Context) error {
	if err := s.Kill(); err != nil {
		return err
	}
	return s.start(ctx)
}

// format writes the broker's configuration and its empty storage.
func (s *ApacheKafkaServer) format(ctx context.Context) error {
	var addresses [2]string
	for i := range addresses {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("choose a port: %w", err)
		}
		defer listener.Close()
		addresses[i] = listener.Addr().String()
	}
	s.address = addresses[0]
	properties := map[string]string{
		"process.roles":                                    "broker,controller",
		"node.id":                                          "1",
		"listeners":                                        "PLAINTEXT://" + addresses[0] + ",CONTROLLER://" + addresses[1],
		"advertised.listeners":                             "PLAINTEXT://" + addresses[0],
		"controller.listener.names":                        "CONTROLLER",
		"controller.quorum.bootstrap.servers":              addresses[1],
		"listener.security.protocol.map":                   "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs":                                         filepath.Join(s.folder, "data"),
		"auto.create.topics.enable":                        "false",
		"group.initial.rebalance.delay.ms":                 "0",
		"offsets.topic.replication.factor":                 "1",
		"offsets.topic.num.partitions":                     "4",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"transaction.state.log.num.partitions":             "4",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
		"log.cleaner.dedupe.buffer.size":                   "4194304",
		// A transaction of a killed process ends soon after its time limit.
		"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
	}
	var text strings.Builder
	for key, value := range properties {
		fmt.Fprintf(&text, "%s=%s\n", key, value)
	}
	if err := os.WriteFile(s.properties(), []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	clusterID := base64.RawURLEncoding.EncodeToString([]byte("auditstream-test"))
	command := exec.CommandContext(ctx, "java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", s.classPath(),
		"kafka.tools.StorageTool", "format", "--standalone", "-c", s.properties(), "-t", clusterID)
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("format storage of Apache Kafka: %w\n%s", err, said)
	}
	return nil
}

func (s *ApacheKafkaServer) properties() string { return filepath.Join(s.folder, "server.properties") }
func (s *ApacheKafkaServer) classPath() string  { return filepath.Join(s.jars, "*") }
func (s *ApacheKafkaServer) output() string     { return filepath.Join(s.folder, "output") }

// runWithPipe runs its arguments and kills them when standard input ends, which
// it does with this process, however that ends.
const runWithPipe = `exec 3<&0
"$@" </dev/null 3<&- &
broker=$!
{ cat <&3 >/dev/null; kill -9 $broker; } &
wait $broker`

func (s *ApacheKafkaServer) start(ctx context.Context) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	output, err := os.OpenFile(s.output(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("open output of Apache Kafka: %w", err)
	}
	defer output.Close()
	command := exec.Command("sh", "-c", runWithPipe, "sh",
		"java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", s.classPath(), "kafka.Kafka", s.properties())
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.hold, err = command.StdinPipe(); err != nil {
		return fmt.Errorf("open pipe: %w", err)
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start Apache Kafka: %w", err)
	}
	s.command = command
	exited := make(chan struct{})
	s.exited = exited
	go func() {
		_ = command.Wait() // killed, most often
		close(exited)
	}()
	return s.waitReady(ctx)
}

func (s *ApacheKafkaServer) waitReady(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.address))
	if err != nil {
		return fmt.Errorf("start Apache Kafka: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		asking, asked := context.WithTimeout(ctx, 2*time.Second)
		metadata, err := admin.BrokerMetadata(asking)
		asked()
		if err == nil && len(metadata.Brokers) == 1 {
			return nil
		}
		select {
		case <-s.exited:
			said, _ := os.ReadFile(s.output())
			return fmt.Errorf("Apache Kafka ended while starting:\n%s", said)
		case <-ctx.Done():
			return fmt.Errorf("Apache Kafka does not answer (%v): %w", err, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
