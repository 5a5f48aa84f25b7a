package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/kafka"
)

// Health is told how the parts the sink depends on are.
type Health interface {
	Expect(components ...string)
	Report(component string, err error)
	Forget(component string)
}

// Expand gives the rows of one record, each as a record with that row's
// encoding as its value. They must be the same whenever it is asked. It is
// called by one goroutine at a time.
type Expand func(record *kgo.Record) ([]*kgo.Record, error)

// Options of a sink. Topic, Rows, Group, Client, Log, Registerer and Health are required.
type Options struct {
	// Name of the sink in logs and Health; "" is "sink".
	Name       string
	Config     config.Sink
	ClickHouse config.ClickHouse
	Topic      string
	// Rows are what the topic's records become: Events, say.
	Rows Rows
	// NewExpand, for a topic whose records are not rows as they are, makes what
	// each partition turns them into rows with.
	NewExpand func() Expand
	// DeadLetter is the topic that records which are no rows are set aside in;
	// without one the partition of such a record stops.
	DeadLetter string
	// LeaveOut, in place of DeadLetter, leaves such records out and tells of each:
	// of a topic whose own sink has set them aside. Several goroutines call it.
	LeaveOut func(record *kgo.Record, err error)
	// Bounded ends Run when every partition is at the end of the run that
	// CommitRun has recorded for the group.
	Bounded bool
	// Replace lets rows take the place of those with the same ids: what is in the
	// table says nothing about whether an insert of this sink has arrived, and is
	// not looked for. An insert whose outcome is unknown is made again.
	Replace bool
	Group   string
	Client  []kgo.Opt // how to reach the brokers; the group's options are set here
	// AcceptGap goes on where records are known to be missing.
	AcceptGap  bool
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Health     Health
	// Hook is for tests: it runs between the durable steps of a partition, and an
	// error makes the whole sink stop there as if it had crashed.
	Hook func(partition int32, step Step) error
}

const (
	// revokeGrace is for the insert under way and its commit when a partition goes
	// to another instance; the group waits for it, a minute at most.
	revokeGrace = 10 * time.Second
	// shutdownGrace is the same when the process ends.
	shutdownGrace = 20 * time.Second
	leaveTimeout  = 5 * time.Second
	// lagInterval is how often the group's lag is read, which also tells whether
	// the brokers answer.
	lagInterval = 5 * time.Second
	lagTimeout  = 10 * time.Second
)

// Service is the sink. Run it once.
type Service struct {
	options   Options
	topic     string
	log       *slog.Logger
	metrics   *metrics
	shards    []*shard
	client    *kgo.Client
	committer committer
	// membership in the group is that of client. endSession ends it, and Run begins
	// another when that is given kafka.ErrThrownOut.
	membership *kafka.Membership
	endSession context.CancelCauseFunc
	now        func() time.Time

	mu      sync.Mutex
	workers map[int32]*worker
	stopped map[int32]bool
	fetched map[int32]string // metadata of the offsets that were fetched last
	// left are partitions whose intents an earlier membership has left open, and
	// that have had no worker since.
	left map[int32]bool

	kafka, clickhouse string // components of Health; of the second, one for each shard

	failed   chan struct{} // closed when Run must end at once
	failOnce sync.Once
	failure  error
}

// New checks everything that can be checked without a server.
func New(options Options) (*Service, error) {
	if options.Name == "" {
		options.Name = "sink"
	}
	s := &Service{
		options: options,
		topic:   options.Topic,
		kafka:   options.Name + " kafka", clickhouse: options.Name + " clickhouse",
		now:     time.Now,
		workers: make(map[int32]*worker),
		stopped: make(map[int32]bool),
		fetched: make(map[int32]string),
		left:    make(map[int32]bool),
		failed:  make(chan struct{}),
	}
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	s.log = options.Log.With("stage", options.Name)
	var err error
	if s.metrics, err = newMetrics(options.Registerer, s); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	if err := s.openShards(); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	options.Health.Expect(s.kafka)
	for _, shard := range s.shards {
		options.Health.Expect(shard.component)
	}
	return s, nil
}

func (s *Service) validate() error {
	o, c := &s.options, &s.options.Config
	var problems []error
	require := func(fine bool, format string, arguments ...any) {
		if !fine {
			problems = append(problems, fmt.Errorf(format, arguments...))
		}
	}
	require(o.Topic != "" && o.Rows != nil, "no topic or rows given")
	require(o.Group != "", "no group given")
	require(o.DeadLetter == "" || o.LeaveOut == nil, "records that are no rows are either set aside or left out")
	require(o.Log != nil && o.Registerer != nil && o.Health != nil, "log, registerer and health are required")
	require(c.BatchRows >= 1 && c.BatchRows <= config.MaxBatchRows, "sink.batchRows: %d is not in 1..%d", c.BatchRows, config.MaxBatchRows)
	require(c.BatchSize >= 1 && c.BatchSize <= config.MaxBatchSize, "sink.batchSize: %d is not in 1..%d", c.BatchSize, config.MaxBatchSize)
	require(c.BatchAge > 0, "sink.batchAge: must be above zero")
	require(c.Inserts >= 1, "sink.inserts: must be at least 1")
	require(c.Memory >= 1, "sink.memory: must be above zero")
	require(c.InsertTimeout > 0, "sink.insertTimeout: must be above zero")
	require(c.Backoff > 0, "sink.backoff: must be above zero")
	_, err := metadata{Topic: "0123456789abcdef0123456789abcdef", Intent: &intent{
		To: 1<<63 - 1, Records: 1 << 31, Attempt: 1 << 31, Target: s.targetOf(o.ClickHouse), At: 1 << 40,
	}, Run: &run{ID: "0123456789abcdef0123456789abcdef", Begin: 1<<63 - 1, Until: 1<<63 - 1}}.encode()
	problems = append(problems, err)
	return errors.Join(problems...)
}

func (s *Service) targetOf(cfg config.ClickHouse) string {
	database, table := clickhouse.TableName(cfg)
	return (&shard{number: len(cfg.Shards)}).name(database + "." + table)
}

// Run works until ctx is done, or a bounded sink is at its end. It then takes no new work, finishes the inserts
// under way within a bounded time and returns nil, or an *OpenError when a
// batch could not be finished. A table that can't be written exactly once is
// an error at once.
func (s *Service) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.closeTables()) }()
	var background sync.WaitGroup
	defer background.Wait()
	asked := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.prepareShards(ctx, &background); err != nil {
		if asked.Err() != nil {
			return nil //nolint:nilerr // asked to stop before it began
		}
		return fmt.Errorf("sink: %w", err)
	}
	for _, shard := range s.shards {
		background.Go(func() { s.watchHold(ctx, shard) })
	}
	for {
		again, err := s.session(ctx)
		if !again {
			return err
		}
		s.metrics.sessions.Inc()
		s.log.Warn("the group had given this member up; it joins anew, from the committed offsets", "group", s.options.Group)
	}
}

// fail makes Run end at once, leaving everything as it is.
func (s *Service) fail(err error) {
	s.failOnce.Do(func() {
		s.failure = err
		close(s.failed)
	})
}

func (s *Service) report(component string, err error) {
	if errors.Is(err, context.Canceled) {
		return // somebody stopped asking; it says nothing about the component
	}
	s.options.Health.Report(component, err)
}

func stopAll(workers []*worker, grace time.Duration) {
	var stopping sync.WaitGroup
	for _, w := range workers {
		stopping.Go(func() { w.stop(grace) })
	}
	stopping.Wait()
}
