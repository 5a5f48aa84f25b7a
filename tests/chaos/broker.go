package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/auditstream/auditstream/tests/servers"
)

// broker is a Kafka broker in a process of its own, behind a proxy.
type broker interface {
	// direct is its own address, past the proxy.
	direct() string
	// breakDown ends it, hard if it can bear that; restart brings it back with
	// its data.
	breakDown() error
	restart(ctx context.Context) error
	signal(what syscall.Signal) error
	// hard tells whether breakDown is a SIGKILL.
	hard() bool
	close() error
}

// Brokers accept sessions this short, so that much fits into a campaign.
const shortestSession = time.Second

func startBroker(ctx context.Context, kind, directory, advertised string) (broker, error) {
	switch kind {
	case "kfake":
		b := &kfakeBroker{directory: directory, advertised: advertised, output: directory + ".log"}
		return b, b.start(ctx)
	case "apache":
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return nil, err
		}
		server, err := servers.StartApacheKafka(ctx, servers.ApacheKafkaOptions{
			Directory: directory, Advertised: advertised,
			Properties: map[string]string{
				"group.min.session.timeout.ms": strconv.FormatInt(shortestSession.Milliseconds(), 10),
				"log.segment.bytes":            "268435456",
			},
		})
		if err != nil {
			return nil, err
		}
		return &apacheBroker{server}, nil
	}
	return nil, fmt.Errorf("--kafka %s: want kfake or apache", kind)
}

type apacheBroker struct{ *servers.ApacheKafkaServer }

func (b *apacheBroker) direct() string                    { return b.Addresses()[0] }
func (b *apacheBroker) breakDown() error                  { return b.Kill() }
func (b *apacheBroker) restart(ctx context.Context) error { return b.Restart(ctx) }
func (b *apacheBroker) signal(what syscall.Signal) error  { return b.Signal(what) }
func (b *apacheBroker) hard() bool                        { return true }
func (b *apacheBroker) close() error                      { return b.Close() }

// kfakeBroker is kfake with its data on disk. It is restarted in good order:
// killed, it can come back with a transaction that is committed in some of its
// partitions only, and forgets at the second start which transactions the
// first one aborted. That is the broker's own doing, and proves nothing about
// what is built on it. Requests under way lose their replies all the same.
type kfakeBroker struct {
	directory, advertised, output string
	address                       string

	command *exec.Cmd
	hold    io.Closer
	exited  chan struct{}
}

const (
	brokerVariable = "AUDITSTREAM_CHAOS_BROKER" // directory, address, advertised
	brokerSays     = "listening on "
)

// runBrokerIfAsked serves and exits when this process was started as a broker.
func runBrokerIfAsked() {
	order, asked := os.LookupEnv(brokerVariable)
	if !asked {
		return
	}
	if err := runBroker(strings.Split(order, "|")); err != nil {
		fmt.Fprintln(os.Stderr, "broker:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runBroker(order []string) error {
	directory, address, advertised := order[0], order[1], order[2]
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() { // standard input ends with the campaign
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	var listener net.Listener
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1), kfake.ClusterID("chaos"), kfake.DataDir(directory),
		kfake.GroupMinSessionTimeout(shortestSession),
		kfake.WithLogger(kfake.BasicLogger(os.Stderr, kfake.LogLevelWarn)),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) {
			made, err := net.Listen(network, address)
			listener = advertisedListener{made, advertised}
			return listener, err
		}))
	if err != nil {
		return err
	}
	fmt.Println(brokerSays + listener.(advertisedListener).Listener.Addr().String())
	select {
	case <-asked:
	case <-ended:
	}
	cluster.Close()
	return nil
}

// advertisedListener tells clients another address than it listens on.
type advertisedListener struct {
	net.Listener
	advertised string
}

func (l advertisedListener) Addr() net.Addr {
	address, err := net.ResolveTCPAddr("tcp", l.advertised)
	if err != nil {
		return l.Listener.Addr()
	}
	return address
}

func (b *kfakeBroker) start(ctx context.Context) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	if b.address == "" {
		b.address = "127.0.0.1:0"
	}
	log, err := os.OpenFile(b.output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(executable)
	command.Args[0] = "kafka-broker " + b.directory
	command.Env = append(os.Environ(), brokerVariable+"="+b.directory+"|"+b.address+"|"+b.advertised)
	command.Stderr = log
	if b.hold, err = command.StdinPipe(); err != nil {
		return err
	}
	says, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	line := make(chan string, 1)
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		text := make([]byte, 256)
		n, _ := says.Read(text)
		line <- string(text[:n])
		_ = command.Wait()
	}()
	b.command, b.exited = command, exited
	select {
	case said := <-line:
		address, found := strings.CutPrefix(strings.TrimSpace(said), brokerSays)
		if !found {
			<-exited
			said, _ := os.ReadFile(b.output)
			return fmt.Errorf("the broker did not start: %s", tail(said, 2000))
		}
		if b.address != address { // the same after the first start
			b.address = address
		}
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), b.close())
	}
}

func (b *kfakeBroker) direct() string { return b.address }

func (b *kfakeBroker) hard() bool { return false }

func (b *kfakeBroker) signal(what syscall.Signal) error { return b.command.Process.Signal(what) }

func (b *kfakeBroker) breakDown() error { return b.end(syscall.SIGTERM) }

func (b *kfakeBroker) restart(ctx context.Context) error { return b.start(ctx) }

func (b *kfakeBroker) close() error { return b.end(syscall.SIGTERM) }

func (b *kfakeBroker) end(how syscall.Signal) error {
	_ = b.command.Process.Signal(how)
	select {
	case <-b.exited:
		return nil
	case <-time.After(20 * time.Second):
		_ = b.command.Process.Kill()
		<-b.exited
		return fmt.Errorf("the broker did not end on %v", how)
	}
}
