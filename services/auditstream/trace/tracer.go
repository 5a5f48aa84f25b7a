package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/topics"
)

// Store is the object store.
type Store interface {
	Alias() string
	Stat(ctx context.Context, bucket, key, version string) (objectstore.Listed, error)
}

// Options of a Tracer.
type Options struct {
	Kafka  config.Kafka
	Topics config.Topics
	// Table is asked for rows on each of the shards; without one nothing is.
	Shards []driver.Conn
	Table  string // quoted
	Ledger string // the ledger's table, quoted; empty: not asked
	Store  Store  // nil: not asked

	// Since bounds how far back is looked; zero is as far as there is something.
	// An audit id that the table doesn't know is looked for in the topics since
	// then, or a day.
	Since time.Time
	// Progress is told of long readings now and then. Optional.
	Progress func(topic string, read, of int64)
	Log      *slog.Logger
}

// scanSince is how far back topics are searched for an audit id.
const scanSince = 24 * time.Hour

// mostTraces is how many events one question is answered for.
const mostTraces = 20

// Tracer answers one question after the other.
type Tracer struct {
	opts    Options
	names   topics.Names
	options []kgo.Opt
	client  *kgo.Client
	admin   *kadm.Client
	notes   []string
}

// New connects to nothing yet. Close ends it.
func New(opts Options) (*Tracer, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Progress == nil {
		opts.Progress = func(string, int64, int64) {}
	}
	client, options, err := kafka.Connect(opts.Kafka, opts.Log)
	if err != nil {
		return nil, err
	}
	return &Tracer{
		opts: opts, names: opts.Topics.Names(), options: options, client: client, admin: kadm.NewClient(client),
	}, nil
}

// Close ends the connections to Kafka.
func (t *Tracer) Close() { t.client.Close() }

func (t *Tracer) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(t.notes, text) {
		t.notes = append(t.notes, text)
	}
}

// Trace follows what was asked for. That nothing was found is no error.
func (t *Tracer) Trace(ctx context.Context, asked string) (*Report, error) {
	t.notes = []string{}
	wanted, err := parse(asked)
	if err != nil {
		return nil, err
	}
	if _, err := t.admin.ApiVersions(ctx); err != nil {
		return nil, fmt.Errorf("reach Kafka: %w", err)
	}
	var targets []target
	switch {
	case wanted.key != "":
		targets, err = t.ofURI(ctx, wanted)
	case wanted.auditID != "":
		targets, err = t.ofAuditID(ctx, wanted.auditID)
	default:
		targets = []target{wanted}
	}
	if err != nil {
		return nil, err
	}
	if len(targets) > mostTraces {
		t.note("there are more; only %d are shown", mostTraces)
		targets = targets[:mostTraces]
	}
	report := &Report{Asked: asked, Traces: []Trace{}}
	for _, one := range targets {
		found, err := t.follow(ctx, one)
		if err != nil {
			return nil, fmt.Errorf("trace %s: %w", one.id(), err)
		}
		report.Traces = append(report.Traces, *found)
	}
	report.Notes = t.notes
	return report, nil
}

// stop is what a search's taker returns when it has what it looks for.
var stop = kafka.ErrStopScan

// isDone tells that nobody waits for the answer any more.
func isDone(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.Canceled)
}
