package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/gofrs/flock"
	"github.com/twmb/franz-go/pkg/kfake"
)

// KafkaOptions say where the broker keeps its data and listens. All are
// optional.
type KafkaOptions struct {
	Directory string // created if missing; without one the data is gone at Close
	Address   string // "127.0.0.1:port"; a free port without one
	Log       *slog.Logger
}

// Kafka is a running single-broker cluster with transactions and groups.
// Topics are not created by asking for them.
type Kafka struct {
	cluster   *kfake.Cluster
	addresses []string
	lock      *flock.Flock // of the directory; nil without one
	listeners *listeners
	closing   sync.Once
	closeErr  error
}

// StartKafka starts the broker. ctx bounds the start only.
func StartKafka(ctx context.Context, options KafkaOptions) (*Kafka, error) {
	log := orDiscard(options.Log)
	address := options.Address
	if address == "" {
		address = localAddress(0)
	}
	_, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("start Kafka: address: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("start Kafka: address %q: port: %w", address, err)
	}

	k := &Kafka{listeners: &listeners{}}
	settings := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.Ports(port),
		kfake.ClusterID("auditstream"),
		kfake.WithLogger(kafkaLog{log}),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) {
			return k.listeners.listen(ctx, network, address)
		}),
	}
	if options.Directory != "" {
		if k.lock, err = lockFolder(options.Directory); err != nil {
			return nil, fmt.Errorf("start Kafka: %w", err)
		}
		settings = append(settings, kfake.DataDir(filepath.Join(options.Directory, "log")))
	}
	if k.cluster, err = kfake.NewCluster(settings...); err != nil {
		err = errors.Join(explainListen(err, address), k.unlock())
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	k.addresses = k.cluster.ListenAddrs()
	log.Info("Kafka broker started", "addresses", k.addresses)
	return k, nil
}

// Addresses are the brokers', as "127.0.0.1:port".
func (k *Kafka) Addresses() []string { return k.addresses }

// Cluster is the broker itself, for tests that inject faults into it.
func (k *Kafka) Cluster() *kfake.Cluster { return k.cluster }

// Close stores what is to be kept, ends every connection, and waits for the
// goroutines that serve them.
func (k *Kafka) Close() error {
	k.closing.Do(func() {
		k.cluster.Close()
		k.listeners.close()
		k.closeErr = k.unlock()
	})
	return k.closeErr
}

func (k *Kafka) unlock() error {
	if k.lock == nil {
		return nil
	}
	return k.lock.Unlock()
}

// lockFolder creates a folder and keeps other processes out of it: the broker
// itself would not notice a second one, and both would lose data.
func lockFolder(path string) (*flock.Flock, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("create folder: %w", err)
	}
	lock := flock.New(filepath.Join(path, "lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if !locked {
		return nil, fmt.Errorf("folder %s is in use by another process", path)
	}
	return lock, nil
}

func explainListen(err error, address string) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %w", address, ErrAddressInUse)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("disk is full: %w", err)
	default:
		return err
	}
}

// kafkaLog sends the broker's messages to slog. What it calls informational
// is one line per request, hence debug here.
type kafkaLog struct{ log *slog.Logger }

func (l kafkaLog) Logf(level kfake.LogLevel, format string, values ...any) {
	target := slog.LevelDebug
	switch level {
	case kfake.LogLevelError:
		target = slog.LevelError
	case kfake.LogLevelWarn:
		target = slog.LevelWarn
	}
	if l.log.Enabled(context.Background(), target) {
		l.log.Log(context.Background(), target, "Kafka broker: "+fmt.Sprintf(format, values...))
	}
}
