package servers

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// brokerSession is how long the controller believes in a broker that is not
// heard of any more.
const brokerSession = 6 * time.Second

// ApacheKafkaServer is a broker of Apache Kafka and a KRaft controller, each
// in a process of its own that ends with this one.
//
// The controller is apart so that it survives the broker's kill. A single node
// of both roles loses committed transactions when it is killed between the
// answer to the commit and the markers, and restarted within the broker's
// session: it first takes itself for the leader it was and loads the
// transaction, then the old registration lapses and the partitions have no
// leader, which the transaction coordinator takes for deleted topics, and
// completes the transaction without writing its markers (Kafka 4.4). Readers
// of committed records then wait for ever. Here the registration has lapsed
// before the broker starts again.
type ApacheKafkaServer struct {
	jars, folder string
	// internal is where the broker speaks to itself when clients reach it by an
	// advertised address.
	address, controller, internal string
	options                       ApacheKafkaOptions

	mutex           sync.Mutex
	controllerHolds *javaProcess
	broker          *javaProcess // nil while killed
	killed          time.Time
}

// ApacheKafkaOptions of a broker of one's own. Only Directory is required.
type ApacheKafkaOptions struct {
	Directory string
	// Advertised is the address that clients are told, that of a proxy say.
	Advertised string
	Properties map[string]string // of the broker, over the ones here
}

// StartApacheKafka starts a broker and a controller; Close ends both. Without
// java and mvn it fails with ErrNoJava.
func StartApacheKafka(ctx context.Context, options ApacheKafkaOptions) (*ApacheKafkaServer, error) {
	jars, err := kafkaJars(ctx)
	if err != nil {
		return nil, err
	}
	server := &ApacheKafkaServer{jars: jars, folder: options.Directory, options: options}
	if err := server.format(ctx); err != nil {
		return nil, err
	}
	if server.controllerHolds, err = server.run("controller"); err != nil {
		return nil, err
	}
	if err := server.start(ctx); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	return server, nil
}

// Close ends broker and controller.
func (s *ApacheKafkaServer) Close() error {
	return errors.Join(s.Kill(), s.controllerHolds.kill(s.controller))
}

var sharedApacheKafka = sync.OnceValues(func() (*ApacheKafkaServer, error) {
	ctx, cancel := startContext()
	defer cancel()
	folder, err := sharedFolder("kafka")
	if err != nil {
		return nil, err
	}
	server, err := StartApacheKafka(ctx, ApacheKafkaOptions{Directory: folder})
	if err != nil {
		return nil, err
	}
	atEnd.add(server.Close)
	return server, nil
})

// ApacheKafka returns the Apache Kafka broker of this test process. Tests
// that kill it must restart it and must not run beside others.
func ApacheKafka(t testing.TB) *ApacheKafkaServer {
	t.Helper()
	server, err := sharedApacheKafka()
	if errors.Is(err, ErrNoJava) {
		unavailable(t, "%v", err)
	}
	require.NoError(t, err)
	return server
}

// Addresses are the broker's, the same over restarts.
func (s *ApacheKafkaServer) Addresses() []string { return []string{s.address} }

// Signal sends the broker a signal: SIGSTOP and SIGCONT to let it hang a while.
func (s *ApacheKafkaServer) Signal(signal syscall.Signal) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.broker == nil {
		return errors.New("signal Apache Kafka: it is down")
	}
	return syscall.Kill(-s.broker.command.Process.Pid, signal)
}

// Kill ends the broker with SIGKILL and returns when it is gone.
func (s *ApacheKafkaServer) Kill() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.broker == nil {
		return nil
	}
	if err := s.broker.kill(s.address); err != nil {
		return fmt.Errorf("kill Apache Kafka: %w", err)
	}
	s.broker = nil
	s.killed = time.Now()
	return nil
}

// Restart starts a killed broker with its data and address, and returns when
// it answers, which takes about ten seconds.
func (s *ApacheKafkaServer) Restart(ctx context.Context) error {
	if err := s.Kill(); err != nil {
		return err
	}
	select {
	case <-time.After(time.Until(s.killed.Add(brokerSession + time.Second))):
	case <-ctx.Done():
		return fmt.Errorf("restart Apache Kafka: %w", context.Cause(ctx))
	}
	return s.start(ctx)
}

func (s *ApacheKafkaServer) start(ctx context.Context) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	broker, err := s.run("broker")
	if err != nil {
		return err
	}
	s.broker = broker
	client, err := kgo.NewClient(kgo.SeedBrokers(s.address))
	if err != nil {
		return fmt.Errorf("start Apache Kafka: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	err = broker.waitReady(ctx, func(ctx context.Context) error {
		metadata, err := admin.BrokerMetadata(ctx)
		if err == nil && len(metadata.Brokers) == 0 {
			err = errors.New("the broker is not part of the cluster yet")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("start Apache Kafka: %w", err)
	}
	return nil
}

// run starts one of the two roles.
func (s *ApacheKafkaServer) run(role string) (*javaProcess, error) {
	process, err := startJava(filepath.Join(s.folder, role+".log"),
		"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", s.classPath(), "kafka.Kafka", s.properties(role))
	if err != nil {
		return nil, fmt.Errorf("start Apache Kafka: %s: %w", role, err)
	}
	return process, nil
}

func (s *ApacheKafkaServer) properties(role string) string {
	return filepath.Join(s.folder, role+".properties")
}

func (s *ApacheKafkaServer) classPath() string { return filepath.Join(s.jars, "*") }

// format writes configuration and empty storage of both roles.
func (s *ApacheKafkaServer) format(ctx context.Context) error {
	for _, address := range []*string{&s.address, &s.controller, &s.internal} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("choose a port: %w", err)
		}
		// Held until all are chosen.
		defer listener.Close()
		*address = listener.Addr().String()
	}
	common := map[string]string{
		"controller.listener.names":           "CONTROLLER",
		"controller.quorum.bootstrap.servers": s.controller,
		"listener.security.protocol.map":      "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"broker.session.timeout.ms":           strconv.FormatInt(brokerSession.Milliseconds(), 10),
		"broker.heartbeat.interval.ms":        "1000",
	}
	roles := map[string]map[string]string{
		"controller": {
			"process.roles": "controller",
			"node.id":       "100",
			"listeners":     "CONTROLLER://" + s.controller,
		},
		"broker": {
			"process.roles":                                    "broker",
			"node.id":                                          "1",
			"listeners":                                        "PLAINTEXT://" + s.address,
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
		},
	}
	if s.options.Advertised != "" {
		common["listener.security.protocol.map"] += ",INTERNAL:PLAINTEXT"
		maps.Copy(roles["broker"], map[string]string{
			"listeners":                  "PLAINTEXT://" + s.address + ",INTERNAL://" + s.internal,
			"advertised.listeners":       "PLAINTEXT://" + s.options.Advertised + ",INTERNAL://" + s.internal,
			"inter.broker.listener.name": "INTERNAL",
		})
	}
	maps.Copy(roles["broker"], s.options.Properties)
	group, ctx := errgroup.WithContext(ctx)
	for role, own := range roles {
		maps.Copy(own, common)
		own["log.dirs"] = filepath.Join(s.folder, role+"-data")
		group.Go(func() error { return s.formatRole(ctx, role, own) })
	}
	return group.Wait()
}

func (s *ApacheKafkaServer) formatRole(ctx context.Context, role string, properties map[string]string) error {
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&text, "%s=%s\n", key, properties[key])
	}
	if err := os.WriteFile(s.properties(role), []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	arguments := []string{
		"-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", s.classPath(), "kafka.tools.StorageTool", "format",
		"-c", s.properties(role), "-t", base64.RawURLEncoding.EncodeToString([]byte("auditstream-test")),
	}
	if role == "controller" {
		arguments = append(arguments, "--standalone")
	}
	if said, err := exec.CommandContext(ctx, "java", arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("format storage of Apache Kafka: %s: %w\n%s", role, err, said)
	}
	return nil
}
