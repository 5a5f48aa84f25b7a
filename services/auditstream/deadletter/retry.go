package deadletter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/services/fetcher/intake"
	"github.com/auditstream/auditstream/topics"
)

const (
	// lettersAtOnce and bytesAtOnce bound one transaction, and what is in memory.
	lettersAtOnce = 500
	bytesAtOnce   = 16 << 20
	// transactionTimeout is what the broker gives a transaction of ours, and
	// settleTimeout how long those of others may keep us from reading on.
	transactionTimeout = 30 * time.Second
	settleTimeout      = 90 * time.Second
	// endTimeout bounds the end of a transaction.
	endTimeout = 20 * time.Second
)

// Options of Retry.
type Options struct {
	Reader
	// Group is the stages' common group, for the transactional id.
	Group     string
	LineLimit int64
	Sources   []config.Source
	Audit     map[string]*audit.Source // the same sources, for lines
	// Store is asked for by messages of queues alone.
	Store func(context.Context) (Store, error)
	// Force puts back what would be set aside again.
	Force  bool
	DryRun bool
	Log    *slog.Logger
	// AtStep, for tests, runs before each transaction's end; its error aborts it.
	AtStep func() error
}

// Store is the object store; *objectstore.Store is one.
type Store interface {
	intake.Stater
	Alias() string
}

// Result is what became of one letter.
type Result struct {
	*Letter
	To      string // the topic it was put back to
	Note    string // how, where that is not plain
	Refused error  // why it was not
}

// Totals count results.
type Totals struct{ PutBack, Refused, Already int }

// Retry puts back what filter chooses and tells of each letter, in the order of
// the topic, once that is final.
//
// The order of the durable steps:
//
//	the transactional id is taken
//	    an earlier run that is still about can't commit any more
//	everything up to the log's end now is read: what is marked was put back
//	    crash: nothing has happened
//	records and their marks are produced in a transaction
//	    crash: readers never see them, the broker aborts
//	the transaction commits
//	    crash: some letters are put back and marked, the others are neither;
//	    the same command again goes on with those
func Retry(ctx context.Context, opts Options, filter Filter, tell func(Result)) (Totals, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.AtStep == nil {
		opts.AtStep = func() error { return nil }
	}
	r := &retry{opts: opts, tell: tell, back: newBack(&opts)}
	bounds, err := r.bounds(ctx)
	if err != nil {
		return r.totals, fmt.Errorf("retry: %w", err)
	}
	defer r.close()
	if err := r.run(ctx, bounds, filter); err != nil {
		return r.totals, fmt.Errorf("retry: %w", err)
	}
	return r.totals, nil
}

type retry struct {
	opts   Options
	tell   func(Result)
	back   *back
	client *kgo.Client // nil in a dry run
	totals Totals

	waiting []*Letter
	size    int
}

func (r *retry) close() {
	if r.client != nil {
		r.client.Close()
	}
}

// bounds takes the transactional id and gives the topic's whole range.
func (r *retry) bounds(ctx context.Context) (kafka.Ranges, error) {
	topic := r.opts.Topics.DeadLetter
	if r.opts.DryRun {
		return r.opts.Reader.bounds(ctx, topic, time.Time{})
	}
	options, err := r.opts.Client()
	if err != nil {
		return nil, err
	}
	options = append(options, kafka.RecordSizes(r.opts.Topics, r.opts.LineLimit)...)
	r.client, err = kgo.NewClient(append(options,
		kgo.TransactionalID(r.opts.Group+"-deadletter"),
		kgo.TransactionTimeout(transactionTimeout),
	)...)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	if _, _, err := r.client.ProducerID(ctx); err != nil {
		return nil, fmt.Errorf("take the transactional id: %w", err)
	}
	// A stage's open transaction hides a mark that was written after its begin. So
	// everything that is there now has to be stable.
	admin := kadm.NewClient(r.client)
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list end offsets of %s: %w", topic, err)
	}
	for deadline := time.Now().Add(settleTimeout); ; {
		bounds, err := kafka.Bounds(ctx, admin, topic, time.Time{}, time.Time{})
		if err != nil {
			return nil, err
		}
		open := -1
		ends.Each(func(end kadm.ListedOffset) {
			if bounds[topic][end.Partition].To < end.Offset {
				open = int(end.Partition)
			}
		})
		if open < 0 {
			return bounds, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("a transaction in topic %s partition %d has been open for %s; try again when it is over", topic, open, settleTimeout)
		}
		if !delay.For(ctx, 200*time.Millisecond) {
			return nil, ctx.Err()
		}
	}
}

func (r *retry) run(ctx context.Context, bounds kafka.Ranges, filter Filter) error {
	history, err := r.opts.history(ctx, bounds)
	if err != nil {
		return err
	}
	// Objects go back with a generation above all before. One reading of the topic
	// tells it of all of them.
	objects := make(map[string]bool)
	filter.Retried = true // they are told of
	if err := r.opts.each(ctx, filter, history, func(letter *Letter) error {
		if letter.Letter.Topic == r.opts.Topics.Objects && letter.Retried.IsZero() {
			objects[letter.Letter.Object] = true
		}
		return nil
	}); err != nil {
		return err
	}
	if r.back.announced, err = r.opts.Announced(ctx, objects); err != nil {
		return err
	}
	r.back.generations = history.generations
	limit := filter.Limit
	filter.Limit = 0
	if err := r.opts.each(ctx, filter, history, func(letter *Letter) error {
		if !letter.Retried.IsZero() {
			r.totals.Already++
			r.tell(Result{Letter: letter, Refused: fmt.Errorf("it was put back at %s", letter.Retried.UTC().Format(time.RFC3339))})
			return nil
		}
		r.waiting = append(r.waiting, letter)
		r.size += len(letter.Letter.Bytes)
		if len(r.waiting) >= lettersAtOnce || r.size >= bytesAtOnce {
			if err := r.flush(ctx); err != nil {
				return err
			}
		}
		if limit--; limit == 0 {
			return kafka.ErrStopScan
		}
		return nil
	}); err != nil {
		return err
	}
	return r.flush(ctx)
}

// flush puts back what waits, in one transaction.
func (r *retry) flush(ctx context.Context) error {
	letters := r.waiting
	r.waiting, r.size = nil, 0
	if len(letters) == 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	if err := r.back.prepare(ctx, letters); err != nil {
		return err
	}
	results := make([]Result, len(letters))
	var records []*kgo.Record
	putBack := 0
	for i, letter := range letters {
		made, note, err := r.back.records(ctx, letter)
		results[i] = Result{Letter: letter, Note: note, Refused: err, To: r.back.topicOf(letter)}
		if err != nil {
			continue
		}
		putBack++
		retried := topics.Retried{Partition: letter.Partition, Offset: letter.Offset, Topic: results[i].To, Object: letter.Letter.Object}
		records = append(records, append(made, retried.Record(r.opts.Topics.DeadLetter))...)
	}
	if !r.opts.DryRun && len(records) > 0 {
		if err := r.commit(ctx, records); err != nil {
			return err
		}
	}
	r.totals.PutBack += putBack
	r.totals.Refused += len(letters) - putBack
	for _, result := range results {
		r.tell(result)
	}
	return nil
}

func (r *retry) commit(ctx context.Context, records []*kgo.Record) error {
	if err := r.client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	err := r.client.ProduceSync(ctx, records...).FirstErr()
	if err == nil {
		err = r.opts.AtStep()
	}
	// What was begun is brought to its end also when ctx is over.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if err != nil {
		err = fmt.Errorf("nothing of the last %d records was put back: %w", len(records), err)
		if abortErr := r.client.AbortBufferedRecords(ending); abortErr != nil {
			return errors.Join(err, abortErr)
		}
		if abortErr := r.client.EndTransaction(ending, kgo.TryAbort); abortErr != nil {
			err = errors.Join(err, fmt.Errorf("abort the transaction (the broker will): %w", abortErr))
		}
		return err
	}
	if err := r.client.EndTransaction(ending, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit (whether it holds, the same command again finds out): %w", err)
	}
	return nil
}
