// Package stack is the whole pipeline in one process: the stages, and an
// embedded Kafka broker, ClickHouse engine and S3 server for whatever the
// configuration doesn't name. `up`, the demo and the end-to-end tests run it.
package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/auditstream/auditstream/pkg/access"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/embedded"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/lifecycle"
)

// What `up` reads when no source is configured.
const (
	DefaultSourceID = "local"
	DefaultBucket   = "audit-logs"
)

// localListing is how often that bucket is looked at: someone waits for what
// they have just put there, and listing a local folder costs nothing.
const localListing = 2 * time.Second

// embeddedAlias names the embedded S3 server in object ids, so that the ids
// don't change with its port.
const embeddedAlias = "embedded"

// Options choose the parts and say where they report to. Log, Registry and
// Health are needed.
type Options struct {
	// Stages that Run runs; nil is all three.
	Stages []config.Command
	// EmbeddedS3 starts the embedded S3 server although sources are configured,
	// and makes their buckets in it.
	EmbeddedS3 bool

	Log      *slog.Logger
	Registry *prometheus.Registry
	Health   *telemetry.Health
}

// Stack is the running servers, with the stages made and ready to run.
type Stack struct {
	cfg   config.Config
	log   *slog.Logger
	tasks []lifecycle.Task

	mu         sync.Mutex // the servers are started at the same time
	kafka      *embedded.Kafka
	clickHouse *embedded.ClickHouse
	s3         *embedded.S3

	closeOnce sync.Once
	closeErr  error
}

// Start starts the servers that cfg doesn't name, makes topics, table and
// buckets, and the stages. An address of cfg.Embedded with port 0 is a free
// port. ctx bounds the start; Close ends what was started.
func Start(ctx context.Context, cfg config.Config, options Options) (*Stack, error) {
	if options.Log == nil || options.Registry == nil || options.Health == nil {
		return nil, errors.New("start the pipeline: a log, a registry and a health are needed")
	}
	s := &Stack{cfg: cfg, log: options.Log}
	if err := s.start(ctx, options); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context, options Options) error {
	if err := s.checkS3(ctx, options); err != nil {
		return err
	}
	if err := s.startServers(ctx, options); err != nil {
		return err
	}
	if err := ApplyTopics(ctx, s.cfg, s.log); err != nil {
		return err
	}
	if err := applySchema(ctx, s.cfg, s.log); err != nil {
		return err
	}
	if s.s3 != nil {
		for i := range s.cfg.Sources {
			if err := s.s3.EnsureBucket(ctx, s.cfg.Sources[i].Bucket); err != nil {
				return err
			}
		}
	}
	stages := options.Stages
	if stages == nil {
		stages = []config.Command{config.CommandFetcher, config.CommandEnricher, config.CommandSink}
	}
	for _, stage := range stages {
		tasks, err := NewStage(ctx, stage, s.cfg, options)
		if err != nil {
			return err
		}
		s.tasks = append(s.tasks, tasks...)
	}
	return nil
}

// checkS3 finds out before any server is started whether an object store that is
// not ours can be asked at all. Who names sources and nothing of S3 may well mean
// ours.
func (s *Stack) checkS3(ctx context.Context, options Options) error {
	if options.EmbeddedS3 || ownS3(&s.cfg) || options.Stages != nil && !slices.Contains(options.Stages, config.CommandFetcher) {
		return nil
	}
	_, err := access.New(ctx, s.cfg.S3, s.cfg.Fetcher.StallTimeout)
	if errors.Is(err, access.ErrNoRegion) {
		return fmt.Errorf("%w: sources are configured, and so read from AWS; s3.endpoint names another store, "+
			"and with embedded.s3: true their buckets are in an S3 server started here", err)
	}
	return err
}

// startServers starts what the configuration doesn't name, all at the same time.
func (s *Stack) startServers(ctx context.Context, options Options) error {
	cfg := &s.cfg
	group, ctx := errgroup.WithContext(ctx)
	if len(cfg.Kafka.Brokers) == 0 {
		group.Go(func() error {
			kafka, err := embedded.StartKafka(ctx, embedded.KafkaOptions{
				Directory: filepath.Join(cfg.Embedded.Directory, "kafka"),
				Address:   orFree(cfg.Embedded.KafkaAddress),
				Log:       s.log,
			})
			if err != nil {
				return explain(err, "embedded.kafkaAddress")
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.kafka = kafka
			return nil
		})
	}
	if !cfg.ClickHouse.Named() {
		group.Go(func() error { return s.startClickHouse(ctx) })
	}
	if options.EmbeddedS3 || ownS3(cfg) {
		group.Go(func() error {
			s3, err := embedded.StartS3(ctx, embedded.S3Options{
				Directory: filepath.Join(cfg.Embedded.Directory, "s3"),
				Address:   orFree(cfg.Embedded.S3Address),
				Log:       s.log,
			})
			if err != nil {
				return explain(err, "embedded.s3Address")
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.s3 = s3
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.fillAddresses()
	return nil
}

func (s *Stack) startClickHouse(ctx context.Context) error {
	tcp, err := port(s.cfg.Embedded.ClickHouseTCPAddress)
	if err != nil {
		return fmt.Errorf("embedded.clickhouseTCPAddress: %w", err)
	}
	http, err := port(s.cfg.Embedded.ClickHouseHTTPAddress)
	if err != nil {
		return fmt.Errorf("embedded.clickhouseHTTPAddress: %w", err)
	}
	clickHouse, err := embedded.StartClickHouse(ctx, embedded.ClickHouseOptions{
		Directory: filepath.Join(s.cfg.Embedded.Directory, "clickhouse"),
		TCPPort:   tcp,
		HTTPPort:  http,
		Log:       s.log,
	})
	if err != nil {
		return explain(err, "embedded.clickhouseTCPAddress and embedded.clickhouseHTTPAddress")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clickHouse = clickHouse
	return nil
}

// fillAddresses puts where the embedded servers are into the configuration.
func (s *Stack) fillAddresses() {
	cfg := &s.cfg
	if s.kafka != nil {
		cfg.Kafka.Brokers = s.kafka.Addresses()
		cfg.Embedded.KafkaAddress = cfg.Kafka.Brokers[0]
	}
	if s.clickHouse != nil {
		useEmbeddedClickHouse(cfg, s.clickHouse.Address())
		cfg.Embedded.ClickHouseTCPAddress = s.clickHouse.Address()
		cfg.Embedded.ClickHouseHTTPAddress = s.clickHouse.HTTPAddress()
	}
	if s.s3 != nil {
		useEmbeddedS3(cfg, embedded.S3AccessAt(s.s3.Address()))
	}
	if len(cfg.Sources) == 0 {
		cfg.Sources = []config.Source{localSource()}
	}
}

// Config is the configuration in effect, with the addresses of what was started.
func (s *Stack) Config() config.Config { return s.cfg }

// Kafka is the embedded broker; nil when the configuration names one.
func (s *Stack) Kafka() *embedded.Kafka { return s.kafka }

// ClickHouse is the embedded engine; nil when the configuration names a server.
func (s *Stack) ClickHouse() *embedded.ClickHouse { return s.clickHouse }

// S3 is the embedded object store; nil when the configuration names one.
func (s *Stack) S3() *embedded.S3 { return s.s3 }

// Run runs the stages, and further tasks beside them, until ctx is done or one
// fails. What is under way is finished in a bounded time. A stack runs once.
func (s *Stack) Run(ctx context.Context, beside ...lifecycle.Task) error {
	return lifecycle.Run(ctx, lifecycle.Grace, slices.Concat(s.tasks, beside)...)
}

// Close ends the servers that were started. Run must have returned, or never
// have been called.
func (s *Stack) Close() error {
	s.closeOnce.Do(func() {
		var failed []error
		if s.s3 != nil {
			failed = append(failed, s.s3.Close())
		}
		if s.clickHouse != nil {
			failed = append(failed, s.clickHouse.Close())
		}
		if s.kafka != nil {
			failed = append(failed, s.kafka.Close())
		}
		s.closeErr = errors.Join(failed...)
	})
	return s.closeErr
}

// orFree is address, or "" for a free port when its port is 0.
func orFree(address string) string {
	if _, port, err := net.SplitHostPort(address); err == nil && port == "0" {
		return ""
	}
	return address
}

func port(address string) (int, error) {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port of %s: %w", address, err)
	}
	return int(number), nil
}

// explain says which key gives a server another port.
func explain(err error, key string) error {
	if errors.Is(err, embedded.ErrAddressInUse) {
		return fmt.Errorf("%w; is another auditstream running? end it, or set %s", err, key)
	}
	return err
}
