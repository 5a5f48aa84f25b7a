package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/delay"
)

// ErrAbort is what process returns (wrapped or bare) when it can't do its work
// now but may later: the object store is away. The transaction is aborted and
// the same records come again after a pause.
var ErrAbort = errors.New("abort the transaction and try again")

const (
	defaultMaxRecords = 10_000
	// defaultLinger suits records that are small and many, and work that begins
	// only when they are gathered: a transaction's fixed cost of several requests
	// is shared by more of them, and nothing waits beside it.
	defaultLinger = 5 * time.Millisecond
	// maxGather bounds what one transaction holds in values.
	maxGather = 64 * mebibyte
	// closeTimeout bounds ending the last transaction and leaving the group.
	closeTimeout = 10 * time.Second
	// finishTimeout is how long process may go on after Run's context is done.
	finishTimeout = 3 * time.Second
)

// Health is told how a component is; *telemetry.Health is one.
type Health interface {
	Expect(components ...string)
	Report(component string, err error)
}

// TransactionOptions say what Transactions consumes and how.
type TransactionOptions struct {
	Client          []kgo.Opt // from Options and RecordSizes; not shared with another client
	Group, Instance string    // transactional.id is "<group>-<instance>"
	Topics          []string  // consumed, read_committed
	// Timeout is the transaction timeout, at most 30 s. process gets a quarter of
	// it for one transaction.
	Timeout    time.Duration
	MaxRecords int           // of one transaction
	Linger     time.Duration // to gather more records once there are some
	Start      StartPolicy

	// OnAssigned runs before records of newly assigned partitions are handed to
	// process, with the offset each goes on from. A partition that comes back
	// after it went away is assigned again. An error is retried.
	OnAssigned func(ctx context.Context, positions Positions) error
	// OnGap runs when a gap is accepted, before the group goes on after it at next:
	// the last moment at which something can be done about what is missing. It may
	// run again for the same gap, and at the same time as all else. An error keeps
	// the partition from going on; it is retried.
	OnGap func(ctx context.Context, gap Gap, next int64) error
	// OnRevoked runs after partitions have gone to someone else.
	OnRevoked func(partitions map[string][]int32)
	// OnAbort runs after a transaction that was not committed: what process
	// produced is void and its records come again, from here or on another
	// instance. Buffers that records point into must not be used again.
	//
	OnAbort func()
	// OnCommit runs after a transaction whose commit the broker has confirmed.
	//
	// OnAssigned, OnRevoked, OnAbort, OnCommit and process never run at the same
	// time.
	OnCommit func()

	Health     Health // optional; components "<stage> kafka" and "<stage> offsets"
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Stage      string // names metrics: auditstream_<stage>_...
}

// Transactions consumes, lets a stage process and produces, each time in one
// Kafka transaction: what is produced and the offsets of what was consumed
// become visible together or not at all.
type Transactions struct {
	opts    TransactionOptions
	log     *slog.Logger
	metrics *transactionMetrics
	health  *health

	// limit of records per transaction: halved when process runs out of time,
	// doubled with every commit.
	limit   int
	backoff *backoff.ExponentialBackOff
}

// NewTransactions checks the options. It talks to no broker.
func NewTransactions(opts TransactionOptions) (*Transactions, error) {
	switch {
	case opts.Group == "" || opts.Instance == "":
		return nil, errors.New("transactions: group and instance must be set")
	case len(opts.Topics) == 0:
		return nil, errors.New("transactions: no topic to consume")
	case opts.Stage == "":
		return nil, errors.New("transactions: stage must be set")
	case opts.Timeout < 0 || opts.Timeout > config.MaxTransactionTimeout:
		return nil, fmt.Errorf("transactions: timeout %s is not within %s", opts.Timeout, config.MaxTransactionTimeout)
	}
	if opts.Timeout == 0 {
		opts.Timeout = config.MaxTransactionTimeout
	}
	if opts.MaxRecords <= 0 {
		opts.MaxRecords = defaultMaxRecords
	}
	if opts.Linger <= 0 {
		opts.Linger = defaultLinger
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	metrics, err := newTransactionMetrics(opts.Stage, opts.Registerer)
	if err != nil {
		return nil, fmt.Errorf("transactions: %w", err)
	}
	return &Transactions{
		opts:    opts,
		log:     opts.Log.With("group", opts.Group, "instance", opts.Instance),
		metrics: metrics,
		health:  newHealth(opts.Stage, opts.Health),
		limit:   opts.MaxRecords,
		backoff: newBackoff(),
	}, nil
}

// TransactionalID is by which the broker fences an earlier run of the instance.
func (t *Transactions) TransactionalID() string { return t.opts.Group + "-" + t.opts.Instance }

// Run polls, begins a transaction, calls process, and commits, until ctx is
// done; it then ends the open transaction, leaves the group and returns nil.
//
// When process fails with ErrAbort or runs out of time the transaction is
// aborted and its records come again; any other error of process ends Run
// with it. Nothing the brokers do ends Run.
func (t *Transactions) Run(ctx context.Context, process func(ctx context.Context, tx *Transaction) error) error {
	for ctx.Err() == nil {
		err := t.runSession(ctx, process)
		var failed *processError
		if errors.As(err, &failed) {
			return failed.err
		}
		if ctx.Err() != nil {
			break
		}
		t.metrics.sessions.Inc()
		t.log.Warn("the Kafka session failed, starting another", "error", err)
		delay.For(ctx, t.backoff.NextBackOff())
	}
	return nil
}

// processError carries an error of process, which ends Run, past those of the
// brokers, which don't.
type processError struct{ err error }

func (e *processError) Error() string { return e.err.Error() }

// Transaction is one open transaction.
type Transaction struct {
	ctx     context.Context // ends only after the transaction's end
	client  *kgo.Client
	member  string // that the records' partitions are assigned to
	records []*kgo.Record
	next    Positions // the offsets after the records, which the transaction commits
	failure atomic.Pointer[produceError]
	promise func(*kgo.Record, error)
}

type produceError struct{ err error }

// Records are what was consumed; there may be none, when only the ends of other
// transactions were. process handles every one: the offsets after them are
// committed with the transaction.
func (tx *Transaction) Records() []*kgo.Record { return tx.records }

// Produce adds a record to the transaction. It returns before the record is
// written, may wait for buffer space, and may be called by several goroutines.
// The record and its bytes belong to the transaction until process is called
// again or OnAbort. A record that can't be written aborts the transaction.
func (tx *Transaction) Produce(record *kgo.Record) {
	tx.client.Produce(tx.ctx, record, tx.promise)
}

// Err is the first error of a produced record so far.
func (tx *Transaction) Err() error {
	if failure := tx.failure.Load(); failure != nil {
		return failure.err
	}
	return nil
}

func newTransaction(ctx context.Context, client *kgo.Client, member string, records []*kgo.Record) *Transaction {
	tx := &Transaction{ctx: ctx, client: client, member: member, next: make(Positions)}
	tx.promise = func(record *kgo.Record, err error) {
		if err != nil {
			err = fmt.Errorf("produce to %s: %w", record.Topic, err)
			tx.failure.CompareAndSwap(nil, &produceError{err})
		}
	}
	// Records come in order within each partition, and in runs of one.
	for i, record := range records {
		if i+1 == len(records) || records[i+1].Partition != record.Partition || records[i+1].Topic != record.Topic {
			tx.next.set(record.Topic, record.Partition, record.Offset+1)
		}
	}
	data := records[:0]
	for _, record := range records {
		if !record.Attrs.IsControl() {
			data = append(data, record)
		}
	}
	tx.records = data
	return tx
}
