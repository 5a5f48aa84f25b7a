package enricher

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/geo"
	"github.com/auditstream/auditstream/topics"
)

// ReplayOptions of a Replay. All but Log are required.
type ReplayOptions struct {
	Topics    topics.Names
	LineLimit int64
	GeoIP     config.GeoIP
	Sources   map[string]*audit.Source
	Log       *slog.Logger
}

// Replay makes rows of raw lines again, as the stage does, for a reader of its
// own: nothing is produced, and what would be dead letters or skips is counted.
//
// The GeoIP databases are those that are there when it is made, so that all of
// one replay comes from one build.
type Replay struct {
	work      *work
	databases *geo.Databases

	mu      sync.Mutex
	counted Counts
}

// Counts are what lines became.
type Counts struct {
	Lines, Rows int
	Rejected    map[string]int // by reason
	Skipped     map[string]int // by reason
}

// NewReplay opens the GeoIP databases.
func NewReplay(opts ReplayOptions) (*Replay, error) {
	if opts.Topics.Normalized == "" || opts.LineLimit <= 0 || opts.Sources == nil {
		return nil, errors.New("replay lines: topics, line limit and sources are required")
	}
	r := &Replay{counted: Counts{Rejected: make(map[string]int), Skipped: make(map[string]int)}}
	var err error
	r.databases, err = geo.New(geo.Options{Directory: opts.GeoIP.Directory, Files: opts.GeoIP.Files, Log: opts.Log})
	if err != nil {
		return nil, fmt.Errorf("replay lines: %w", err)
	}
	if r.databases.None() && (opts.GeoIP.Directory != "" || len(opts.GeoIP.Files) > 0) {
		// The stage goes on without; here it would take the places from rows that
		// have them.
		return nil, errors.New("replay lines: enricher.geoip names databases, and none of them can be used")
	}
	r.work = newWork(Options{Topics: opts.Topics, LineLimit: opts.LineLimit, Sources: opts.Sources}, 0, nil, nil)
	return r, nil
}

// Lines makes what turns records of `raw` into those of `normalized`, for one
// goroutine at a time. The records it gives are the caller's.
func (r *Replay) Lines() func(*kgo.Record) []*kgo.Record {
	w := newWorker(r.work, audit.NewNormalizer(r.databases.Locator()))
	b := &block{}
	return func(line *kgo.Record) []*kgo.Record {
		b.lines = append(b.lines[:0], line)
		b.records, b.others, b.tally, b.ready = b.records[:0], b.others[:0], tally{}, make(chan struct{})
		w.do(b)
		// What is filled belongs to the rows; what is free of the piece at hand is
		// for the next line.
		b.arena.pieces, b.arena.used = nil, 0
		rows := make([]*kgo.Record, 0, b.tally.rows)
		for i := range b.records {
			if b.records[i].Topic != r.work.names.Normalized {
				continue
			}
			row := b.records[i]
			row.Topic, row.Partition, row.Offset, row.Timestamp = line.Topic, line.Partition, line.Offset, line.Timestamp
			rows = append(rows, &row)
		}
		clear(b.records)
		r.count(&b.tally)
		return rows
	}
}

func (r *Replay) count(t *tally) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counted.Lines += t.lines
	r.counted.Rows += t.rows
	for reason, count := range t.rejected {
		r.counted.Rejected[string(reason)] += count
	}
	for reason, count := range t.skipped {
		r.counted.Skipped[string(reason)] += count
	}
}

// Counts are those of all lines so far. A line that was taken twice, since a
// batch was read again, counts twice.
func (r *Replay) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := r.counted
	counts.Rejected, counts.Skipped = maps.Clone(counts.Rejected), maps.Clone(counts.Skipped)
	return counts
}
