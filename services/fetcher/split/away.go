package split

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/auditstream/auditstream/pkg/objectstore"
)

const (
	// probesAtOnce is how many origins a transaction asks at the same time.
	probesAtOnce = 8
	// answerHolds is how long it is believed that an origin answers, when it comes
	// to whether all are away.
	answerHolds = 10 * time.Second
)

// isAnswer tells whether the store, by this error, says something about the
// object.
func isAnswer(err error) bool {
	return err != nil && !errors.Is(err, objectstore.ErrUnavailable) && !errors.Is(err, errSlow) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// storeAway finds out whether failures are the objects' own or their origin's.
// Of an origin of which all that was tried failed without an answer, it asks
// about the bucket: one that answers that is there. What comes of streams that
// are open is no answer: it may be under way since before it went.
//
// To the objects of an origin that is away it was no try. It is an error when
// nothing came of the transaction and no other configured origin answers
// either: putting objects back would then be all that ever happens.
func (s *Splitter) storeAway(ctx context.Context, work plan) error {
	said, silent, progress := sortOrigins(work)
	if len(said)+len(silent) == 0 {
		return nil
	}
	for from := range said {
		s.lastAnswer = answer{from, time.Now()}
	}
	away := s.askOrigins(ctx, silent)
	for _, p := range work.pieces {
		if away[originOf(&p.object)] != nil {
			p.storeAway = true
		}
	}
	nobody := len(away) > 0 && !progress && !s.anyAnswers(ctx)
	s.outages.report()
	if !nobody {
		return nil
	}
	var all []error
	for from, err := range away {
		all = append(all, fmt.Errorf("%s: %w", from, err))
	}
	return errors.Join(all...)
}

// answer is when an origin gave one.
type answer struct {
	from origin
	at   time.Time
}

// sortOrigins tells which said something, which did not, each with a key that
// was asked for in vain, and whether there was progress, be it of open streams.
func sortOrigins(work plan) (said map[origin]bool, silent map[origin]string, progress bool) {
	said, silent = make(map[origin]bool), make(map[origin]string)
	for _, p := range work.pieces {
		switch {
		case p.answered:
			said[originOf(&p.object)] = true
		case p.err != nil && !errors.Is(p.err, errUnknownSource):
			silent[originOf(&p.object)] = p.object.Key
		}
		progress = progress || p.progress || p.ended
	}
	for from := range said {
		delete(silent, from)
	}
	return said, silent, progress
}

// askOrigins asks those about their keys that are not known to be away, and
// tells which are. From then on they are known.
func (s *Splitter) askOrigins(ctx context.Context, keys map[origin]string) (away map[origin]error) {
	ctx, cancel := halfOf(ctx)
	defer cancel()
	var mu sync.Mutex
	away = make(map[origin]error)
	var asking errgroup.Group
	asking.SetLimit(probesAtOnce)
	for from, key := range keys {
		asking.Go(func() error {
			err := s.ask(ctx, from, key)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				away[from] = err
			} else {
				s.lastAnswer = answer{from, time.Now()}
			}
			return nil
		})
	}
	_ = asking.Wait() // none gives an error
	return away
}

// anyAnswers tells whether any of the configured origins does, or did a moment
// ago and isn't away since.
func (s *Splitter) anyAnswers(ctx context.Context) bool {
	if last := s.lastAnswer; time.Since(last.at) < answerHolds && s.outages.of(last.from) == nil {
		return true
	}
	ctx, cancel := halfOf(ctx)
	defer cancel()
	for id, source := range s.sources {
		from := origin{id, source.Bucket}
		if ctx.Err() == nil && s.ask(ctx, from, source.Prefix) == nil {
			s.lastAnswer = answer{from, time.Now()}
			return true
		}
	}
	return false
}

// ask gives nil when the origin answers.
func (s *Splitter) ask(ctx context.Context, from origin, key string) error {
	if err := s.outages.of(from); err != nil {
		return err
	}
	err := probe(ctx, s.opts.Store, from, key)
	if err != nil {
		s.outages.begin(from, key, err)
	}
	return err
}

// halfOf leaves half of the time there is for what follows.
func halfOf(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := longestProbe
	if deadline, bounded := ctx.Deadline(); bounded {
		limit = min(limit, time.Until(deadline)/2)
	}
	return context.WithTimeout(ctx, limit)
}
