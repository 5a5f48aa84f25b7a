package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/topics"
)

// MostExamined is how many objects are looked at line by line. When more differ
// something large is wrong, and their numbers of rows say enough.
const MostExamined = 1000

// Flight knows what is on its way through the topics.
type Flight interface {
	// Begin remembers where the stages are, before the tables are read.
	Begin(ctx context.Context) ([]Lag, error)
	// UnderWay tells which of the objects had something on its way at any moment
	// since Begin, and which replays were on their way into the ledger, as far as
	// not all objects are under way anyhow.
	UnderWay(ctx context.Context, objects map[string]bool) (map[string]bool, []topics.LedgerEntry, error)
}

// Options of a verification.
type Options struct {
	ClickHouse   config.ClickHouse
	Shards       []driver.Conn // where the parts of the tables are; one, mostly
	Flight       Flight        // nil: nothing is known to be under way
	Since, Until time.Time
	Source       string  // id; "": all
	Object       string  // S3 URI or object id; "": all
	Bucket       *Bucket // nil: buckets are not listed
	Log          *slog.Logger
}

// ErrNoSuchObject is an object that the ledger does not know.
var ErrNoSuchObject = errors.New("the ledger does not know the object")

// Run verifies. What it finds is in the report; an error is that it could not look.
func Run(ctx context.Context, opts Options) (*Report, error) {
	began := time.Now()
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	v := &verification{opts: opts, totals: make(map[[2]string]*SourceTotals)}
	v.report = Report{Since: opts.Since, Until: opts.Until, Sources: []SourceTotals{}, Problems: []Problem{}, Dead: []DeadObject{}, UnderWay: []string{}, Lag: []Lag{}}
	database, table := clickhouse.TableName(opts.ClickHouse)
	v.tables = tables{shards: opts.Shards, rows: quoted(database, table), name: table, database: database}
	v.tables.ledger = quoted(clickhouse.ObjectsName(opts.ClickHouse))
	if len(opts.Shards) == 0 {
		return nil, errors.New("verify: no ClickHouse server given")
	}
	if err := v.run(ctx); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	v.report.Took = time.Since(began)
	return &v.report, nil
}

type verification struct {
	opts    Options
	tables  tables
	where   where
	replays []topics.LedgerEntry
	hashes  hashes
	report  Report
	totals  map[[2]string]*SourceTotals

	suspects []suspect
	strays   map[string]Key      // objects of which there are only entries of lines
	homeless map[string]homeless // objects set aside while their source was not known
	takenIn  map[DeadObject]bool
	seen     map[string]bool // objects of the ledger, when buckets are listed
	problems []Problem
}

// suspect is an object whose numbers differ.
type suspect struct {
	key        Key
	uri        string
	want, have sums
	unknown    bool // the ledger has no such object
	explained  bool // it may rightly have rows twice
	counts     Totals
}

func (v *verification) run(ctx context.Context) (err error) {
	if v.opts.Flight != nil {
		// Before the tables are read: what is in neither of them is then behind here.
		if v.report.Lag, err = v.opts.Flight.Begin(ctx); err != nil {
			return err
		}
	}
	if err := v.bound(ctx); err != nil {
		return err
	}
	if v.replays, err = v.tables.replays(ctx); err != nil {
		return err
	}
	if v.opts.Bucket != nil {
		v.seen = make(map[string]bool)
	}
	if err := v.compare(ctx); err != nil {
		return err
	}
	if err := v.collapse(ctx); err != nil {
		return err
	}
	if err := v.examine(ctx); err != nil {
		return err
	}
	if err := v.lookAtStrays(ctx); err != nil {
		return err
	}
	if v.opts.Bucket != nil {
		if err := v.lookIntoBuckets(ctx); err != nil {
			return err
		}
	}
	return v.conclude(ctx)
}

// bound works out which part of the tables is meant.
func (v *verification) bound(ctx context.Context) error {
	first, err := v.tables.begin(ctx)
	if err != nil {
		return err
	}
	if first > 0 {
		v.report.LedgerBegins = time.Unix(int64(first), 0).UTC()
	}
	if v.opts.Object != "" {
		if v.where, err = v.tables.find(ctx, v.opts.Object); err != nil {
			return err
		}
		if v.where.objects == nil {
			return fmt.Errorf("%s: %w", v.opts.Object, ErrNoSuchObject)
		}
	}
	v.where.source = v.opts.Source
	if !v.opts.Since.IsZero() {
		v.where.since = max(v.where.since, seconds(v.opts.Since))
	}
	if until := seconds(v.opts.Until); until > 0 && (v.where.until == 0 || until < v.where.until) {
		v.where.until = until
	}
	return nil
}

// seconds of a time, rounded up: receivedAt is rounded down, and so on the same
// side of a bound.
func seconds(at time.Time) uint32 {
	if at.IsZero() {
		return 0
	}
	return uint32(min(max((at.UnixNano()+int64(time.Second)-1)/int64(time.Second), 0), 1<<32-1)) //nolint:gosec // bounded
}

// compare reads both tables side by side and finds the objects that differ.
func (v *verification) compare(ctx context.Context) error {
	var reading sync.WaitGroup
	defer reading.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	groups := make(chan []entry, 64)
	failed := make(chan error, 1)
	// It is begun when the rows' answer arrives: who does not read what the server
	// sends is cut off in the end.
	begin := func() {
		reading.Go(func() {
			defer close(groups)
			failed <- v.groups(ctx, groups)
		})
	}
	var next []entry
	begun := false
	advance := func() {
		if !begun {
			begun = true
			begin()
		}
		next = <-groups
	}
	err := v.tables.aggregates(ctx, v.where, false, func(a aggregate) error {
		if !begun {
			advance()
		}
		for next != nil && next[0].key.before(a.key) {
			v.judge(next, aggregate{key: next[0].key})
			advance()
		}
		if next != nil && next[0].key == a.key {
			v.judge(next, a)
			advance()
			return nil
		}
		v.judge(nil, a)
		return nil
	})
	if err != nil {
		return err
	}
	if !begun {
		advance()
	}
	for ; next != nil; advance() {
		v.judge(next, aggregate{key: next[0].key})
	}
	return <-failed
}

// groups sends the entries of each object together.
func (v *verification) groups(ctx context.Context, groups chan<- []entry) error {
	var group []entry
	send := func() error {
		if group == nil {
			return nil
		}
		select {
		case groups <- group:
			group = nil
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := v.tables.entries(ctx, v.where, func(e entry) error {
		if group != nil && group[0].key != e.key {
			if err := send(); err != nil {
				return err
			}
		}
		group = append(group, e)
		return nil
	})
	return errors.Join(err, send())
}

// judge compares one object's numbers.
func (v *verification) judge(entries []entry, a aggregate) {
	e := expect(entries)
	if e.runs == 0 {
		if a.rows == 0 {
			if v.strays == nil {
				v.strays = make(map[string]Key)
			}
			v.strays[a.key.Object] = a.key
			return
		}
		v.suspects = append(v.suspects, suspect{key: a.key, have: a.sums, unknown: true, counts: Totals{Rows: int64(a.rows)}}) //nolint:gosec // a number of rows
		return
	}
	if v.seen != nil {
		v.seen[a.key.Object] = true
	}
	s := suspect{key: a.key, uri: e.uri, want: e.sums(&v.hashes), have: a.sums, explained: v.explained(&e, a.key)}
	s.counts = Totals{Objects: 1, Lines: e.fetched.count(), Skipped: e.skipped.within(e.fetched).count(), Rows: int64(a.rows)} //nolint:gosec // a number of rows
	s.counts.WithRows = e.withRows().count()
	s.counts.DeadOnly = s.counts.Lines - s.counts.Skipped - s.counts.WithRows
	v.takeIn(a.key)
	if e.letter != nil {
		s.counts.Dead = 1
		v.report.Dead = append(v.report.Dead, DeadObject{a.key.Object, e.uri, a.key.Source, e.letter.reason, e.letter.last})
		v.setAside(a.key, &s.counts)
	}
	// Of a line with dead letters beside its rows it is not known which events the
	// rows are, so their sum says nothing.
	if s.want != s.have || e.mixed {
		v.suspects = append(v.suspects, s)
		return
	}
	v.count(s.key, s.counts)
}

// explained tells whether rows of the object may rightly be there twice until
// they have collapsed: it was fetched again, or replayed.
func (v *verification) explained(e *expected, key Key) bool {
	return e.runs > 1 || e.generation > 0 || v.replayed(key)
}

func (v *verification) replayed(key Key) bool {
	return slices.ContainsFunc(v.replays, func(replay topics.LedgerEntry) bool {
		return replay.Covers(v.tables.name, key.Source, key.Object, int64(key.ReceivedAt)*1000)
	})
}

func (v *verification) count(key Key, counts Totals) {
	of := [2]string{key.Workspace, key.Source}
	if v.totals[of] == nil {
		v.totals[of] = &SourceTotals{Workspace: key.Workspace, Source: key.Source}
	}
	v.totals[of].add(counts)
}
