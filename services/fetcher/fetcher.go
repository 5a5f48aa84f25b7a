// Package fetcher is the first stage: it brings the lines of S3 objects into
// the topic `raw`.
//
//	intake       finds objects and announces them in the topic `objects`
//	split        reads the announced objects and produces their lines to `raw`
//	objectlog    reads `objects` back, the only memory of what was announced
//
// Intake and split know each other through the topic alone. There are two kinds
// of intake, listings and queues of notifications, and an object that both find
// is the same object.
package fetcher

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/services/fetcher/intake"
	"github.com/auditstream/auditstream/services/fetcher/objectlog"
	"github.com/auditstream/auditstream/services/fetcher/split"
	"github.com/auditstream/auditstream/topics"
)

// bufferedBytes bounds what is produced and not yet acknowledged, so that a
// large object never is in memory as a whole. At least two of the longest lines
// fit.
const bufferedBytes = 32 << 20

// linger is how long a transaction gathers objects. It is far below what
// kafka.TransactionOptions takes by default, which is made for single lines: one
// object alone is enough work for a transaction, and while more are gathered the
// open streams, which have read ahead as far as they may, stand still.
const linger = 200 * time.Microsecond

// Health is told how the components of the stage are; *telemetry.Health is one.
type Health interface {
	Expect(components ...string)
	Report(component string, err error)
}

// Options of the stage.
type Options struct {
	Config  config.Fetcher
	Sources []config.Source
	S3      config.S3
	Topics  config.Topics
	Kafka   config.Kafka
	// Group and Instance default to <kafka.group>-fetcher and kafka.instance, or
	// the host's name. Two running instances must not have the same name.
	Group, Instance string

	Log        *slog.Logger
	Registerer prometheus.Registerer
	Health     Health

	// AtStep, for tests, runs between the durable steps of split.
	AtStep func(split.Step) error
}

// Fetcher is the stage.
type Fetcher struct {
	opts     Options
	names    topics.Names
	store    *objectstore.Store
	log      *objectlog.Reader
	metrics  *intake.Metrics
	splitter *split.Splitter
	clients  clients
}

// clients are the options of the two long-lived Kafka clients.
type clients struct{ split, announce []kgo.Opt }

// New checks everything that can be checked without talking to anyone. The
// configuration is expected to be a valid one.
func New(ctx context.Context, opts Options) (*Fetcher, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Health == nil {
		opts.Health = deaf{}
	}
	if opts.Group == "" {
		opts.Group = opts.Kafka.Group + "-fetcher"
	}
	if opts.Instance == "" {
		var err error
		if opts.Instance, err = opts.Kafka.InstanceName(); err != nil {
			return nil, fmt.Errorf("fetcher: kafka.instance is not set and there is no host name: %w", err)
		}
	}
	f := &Fetcher{opts: opts, names: topics.NewNames(opts.Topics.Prefix)}
	f.log = &objectlog.Reader{
		Topic:  f.names.Objects,
		Client: func() ([]kgo.Opt, error) { return kafka.Options(opts.Kafka, opts.Log, nil) },
	}
	if err := f.connect(ctx); err != nil {
		return nil, fmt.Errorf("fetcher: %w", err)
	}
	// Run's Kafka session reports it; until then the fetcher is not ready.
	opts.Health.Expect(split.Stage + " kafka")
	return f, nil
}

func (f *Fetcher) connect(ctx context.Context) (err error) {
	splitMetrics, err := split.NewMetrics(f.opts.Registerer)
	if err != nil {
		return err
	}
	if f.metrics, err = intake.NewMetrics(f.opts.Registerer); err != nil {
		return err
	}
	if f.store, err = objectstore.New(ctx, f.opts.S3, objectstore.Options{
		Sources: f.opts.Sources, StallTimeout: f.opts.Config.StallTimeout, OnResume: splitMetrics.Resumed, Log: f.opts.Log,
	}); err != nil {
		return err
	}
	if f.clients.split, err = f.client(); err != nil {
		return err
	}
	if f.clients.announce, err = f.client(); err != nil {
		return err
	}
	f.splitter = split.New(split.Options{
		Fetcher: f.opts.Config, LineLimit: int64(f.opts.Topics.LineLimit), Sources: f.opts.Sources, Topics: f.names,
		Store: f.store, Log: f.log, Health: f.opts.Health, Logger: f.opts.Log, Metrics: splitMetrics, AtStep: f.opts.AtStep,
	})
	return nil
}

// client are the options of one long-lived client.
func (f *Fetcher) client() ([]kgo.Opt, error) {
	opts, err := kafka.Options(f.opts.Kafka, f.opts.Log, f.opts.Registerer)
	if err != nil {
		return nil, err
	}
	lineLimit := int64(f.opts.Topics.LineLimit)
	opts = append(opts, kafka.RecordSizes(f.names, lineLimit)...)
	return append(opts, kgo.MaxBufferedBytes(max(bufferedBytes, 2*int(topics.MaxMessageBytes(lineLimit))))), nil
}

// Run works until ctx is done, then ends what is open within a bounded time.
func (f *Fetcher) Run(ctx context.Context) error {
	defer f.splitter.Close()
	announcing, err := kgo.NewClient(f.clients.announce...)
	if err != nil {
		return fmt.Errorf("fetcher: Kafka client: %w", err)
	}
	closeAnnouncing := sync.OnceFunc(announcing.Close)
	defer closeAnnouncing()
	admin := kadm.NewClient(announcing)

	announcer := intake.NewAnnouncer(announcing, f.names.Objects, f.store.Alias(), f.metrics)
	queues := intake.NewQueues(intake.QueuesOptions{
		Sources: f.opts.Sources, Identities: f.store.Identities(), Store: f.store,
		Announcer: announcer, DeadLetters: intake.NewDeadLetters(announcing, f.names.DeadLetter),
		Metrics: f.metrics, Health: f.opts.Health, Logger: f.opts.Log,
	})
	listing := intake.NewListing(intake.ListingOptions{
		Sources: f.opts.Sources, Lister: f.store, Log: f.log,
		Announcer:  announcer,
		Partitions: func(ctx context.Context) (int32, error) { return partitions(ctx, admin, f.names.Objects) },
		Horizon:    f.opts.Config.DedupeHorizon, Remember: f.opts.Config.DedupeObjects,
		Health: f.opts.Health, Logger: f.opts.Log,
	})
	f.splitter.OnVoid(listing.Voided)
	transactions, err := kafka.NewTransactions(kafka.TransactionOptions{
		Client: append(f.clients.split, kgo.RecordPartitioner(split.Partitioner(f.names.Objects))),
		Group:  f.opts.Group, Instance: f.opts.Instance,
		Topics:     []string{f.names.Objects},
		Timeout:    f.opts.Kafka.TransactionTimeout,
		MaxRecords: f.opts.Config.ObjectsPerTransaction,
		Linger:     linger,
		Start: kafka.StartPolicy{
			AcceptGap:   f.opts.Kafka.AcceptGap,
			OutputEmpty: func(ctx context.Context) (bool, error) { return isEmpty(ctx, admin, f.names.Raw) },
		},
		OnGap: func(ctx context.Context, gap kafka.Gap, next int64) error {
			return f.writeVoid(ctx, admin, topics.Void{Partition: gap.Partition, From: gap.From, Next: next})
		},
		OnAssigned: func(ctx context.Context, positions kafka.Positions) error {
			mine := positions[f.names.Objects]
			if err := f.splitter.Assigned(ctx, mine); err != nil {
				return err
			}
			listing.Assigned(mine)
			return nil
		},
		OnRevoked: func(revoked map[string][]int32) {
			listing.Revoked(revoked[f.names.Objects])
			f.splitter.Revoked(revoked[f.names.Objects])
		},
		OnCommit: f.splitter.Committed,
		OnAbort:  f.splitter.Aborted,
		Health:   f.opts.Health, Log: f.opts.Log, Registerer: f.opts.Registerer, Stage: split.Stage,
	})
	if err != nil {
		return fmt.Errorf("fetcher: %w", err)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	// A record that was sent and not answered can't be taken back while brokers
	// are away; closing ends the wait for it. What is lost was not remembered.
	defer context.AfterFunc(groupCtx, closeAnnouncing)()
	group.Go(func() error { return listing.Run(groupCtx) })
	group.Go(func() error { return queues.Run(groupCtx) })
	group.Go(func() error {
		return transactions.Run(groupCtx, func(ctx context.Context, tx *kafka.Transaction) error {
			return f.splitter.Process(ctx, groupCtx, tx)
		})
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("fetcher: %w", err)
	}
	return nil
}

// writeVoid has a client of its own: it is rare.
func (f *Fetcher) writeVoid(ctx context.Context, admin *kadm.Client, void topics.Void) error {
	number, err := partitions(ctx, admin, f.names.Objects)
	if err != nil {
		return err
	}
	options, err := kafka.Options(f.opts.Kafka, f.opts.Log, nil)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return fmt.Errorf("Kafka client: %w", err)
	}
	defer client.Close()
	return intake.WriteVoid(ctx, client, f.names.Objects, number, void)
}

// partitions is how many the topic has.
func partitions(ctx context.Context, admin *kadm.Client, topic string) (int32, error) {
	details, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("describe topic %s: %w", topic, err)
	}
	if err := details[topic].Err; err != nil {
		return 0, fmt.Errorf("describe topic %s: %w", topic, err)
	}
	return int32(len(details[topic].Partitions)), nil //nolint:gosec // Kafka's own range
}

// isEmpty tells whether nothing was ever written to the topic.
func isEmpty(ctx context.Context, admin *kadm.Client, topic string) (bool, error) {
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return false, fmt.Errorf("list the end offsets of %s: %w", topic, err)
	}
	empty := true
	ends.Each(func(end kadm.ListedOffset) { empty = empty && end.Offset <= 0 })
	return empty, nil
}

// deaf is the Health of a stage that nobody asks.
type deaf struct{}

func (deaf) Expect(...string)     {}
func (deaf) Report(string, error) {}
