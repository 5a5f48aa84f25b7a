package sink

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/delay"
)

// firstTries is how long a shard that neither answers nor refuses holds up the
// others' start.
const firstTries = 15 * time.Second

// shard is one place of the table. Which one a partition's rows go to is fixed
// by the partition's number, so that a row that comes again comes to the same
// shard and collapses with itself there.
//
// Nothing is shared between shards that one of them, when it is away, could use
// up: neither memory nor inserts.
type shard struct {
	number    int
	table     Table
	hold      *hold
	component string               // of Health
	inserts   chan struct{}        // one token for each insert under way
	flow      atomic.Pointer[flow] // of its partitions
	ready     chan struct{}        // closed when the table is prepared
}

// target names shard and table in intents.
func (s *shard) target() string { return s.name(s.table.Name()) }

func (s *shard) name(table string) string { return strconv.Itoa(s.number) + "/" + table }

func (s *shard) isReady() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

func (s *Service) shardOf(partition int32) *shard {
	return s.shards[int(partition)%len(s.shards)]
}

// openShards opens every shard's table; it dials nothing.
func (s *Service) openShards() error {
	each := s.options.ClickHouse.PerShard()
	if len(each) == 0 {
		each = []config.ClickHouse{s.options.ClickHouse} // which says what is missing
	}
	for number, cfg := range each {
		opened, err := s.options.Rows(cfg, s.options.Log)
		if err != nil {
			return errors.Join(err, s.closeTables())
		}
		made := &shard{
			number: number, table: opened, hold: newHold(), component: s.clickhouse,
			inserts: make(chan struct{}, s.options.Config.Inserts), ready: make(chan struct{}),
		}
		if len(each) > 1 {
			made.component = fmt.Sprintf("%s shard %d", s.clickhouse, number)
		}
		s.shards = append(s.shards, made)
	}
	return nil
}

// attempt is the outcome of one try to prepare a shard.
type attempt struct {
	shard *shard
	first bool
	err   error
}

// prepareShards begins to prepare every shard, each by itself, and returns when
// all were tried and one is ready. A table that can't be written exactly once
// is an error until then; one that turns out so later holds back its own
// partitions until it is mended.
func (s *Service) prepareShards(ctx context.Context, background *sync.WaitGroup) error {
	attempts, begun := make(chan attempt), make(chan struct{})
	defer close(begun)
	for _, shard := range s.shards {
		background.Go(func() {
			s.prepare(ctx, shard, func(a attempt) {
				select {
				case attempts <- a:
				case <-begun:
				case <-ctx.Done():
				}
			})
		})
	}
	timer := time.NewTimer(firstTries)
	defer timer.Stop()
	for untried, ready := len(s.shards), false; untried > 0 || !ready; {
		select {
		case a := <-attempts:
			var unfit *clickhouse.UnfitError
			if errors.As(a.err, &unfit) {
				return a.err
			}
			if a.first {
				untried--
			}
			ready = ready || a.err == nil
		case <-timer.C:
			untried = 0
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// prepare tries until the shard's server answers and its table is fit.
func (s *Service) prepare(ctx context.Context, shard *shard, tell func(attempt)) {
	spacing := s.spacing()
	for first := true; ; first = false {
		tryCtx, cancel := context.WithTimeout(ctx, s.options.Config.InsertTimeout)
		err := shard.table.Prepare(tryCtx)
		cancel()
		if ctx.Err() != nil {
			return
		}
		s.report(shard.component, err)
		if err == nil {
			close(shard.ready)
		}
		tell(attempt{shard, first, err})
		if err == nil || !delay.For(ctx, spacing.NextBackOff()) {
			return
		}
	}
}

// awaitShard holds the worker back, with nothing in memory, until its shard is
// ready.
func (w *worker) awaitShard() error {
	select {
	case <-w.shard.ready:
		w.queue.begin()
		return nil
	case <-w.stopping:
		return errStopped
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// empty reports whether no shard holds a row. One row is enough to know; only
// where there is none must all have been asked.
func (s *Service) empty(ctx context.Context) (bool, error) {
	away := -1
	for _, shard := range s.shards {
		if !shard.isReady() {
			away = shard.number
			continue
		}
		if empty, err := shard.table.Empty(ctx); err != nil || !empty {
			return false, err
		}
	}
	if away >= 0 {
		return false, fmt.Errorf("shard %d is away, and no other holds a row: a group without offsets begins when all shards are there", away)
	}
	return true, nil
}

func (s *Service) closeTables() error {
	var problems []error
	for _, shard := range s.shards {
		if err := shard.table.Close(); err != nil {
			problems = append(problems, fmt.Errorf("close table %s: %w", shard.target(), err))
		}
	}
	return errors.Join(problems...)
}

// expander makes a partition's own Expand, nil without.
func (s *Service) expander() Expand {
	if s.options.NewExpand == nil {
		return nil
	}
	return s.options.NewExpand()
}
