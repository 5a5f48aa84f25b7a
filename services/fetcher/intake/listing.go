package intake

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/topics"
)

const (
	// longestBackoff between two passes that failed, unless the interval is longer.
	longestBackoff = time.Minute
	firstBackoff   = 500 * time.Millisecond
)

// Lister lists a bucket; *objectstore.Store is one.
type Lister interface {
	List(ctx context.Context, bucket, prefix, startAfter string, yield func(objectstore.Listed) error) error
}

// LogReader reads the topic `objects` back.
type LogReader interface {
	All(ctx context.Context, since time.Time, yield func(*kgo.Record)) error
}

// Health is told how each source's listing goes.
type Health interface {
	Report(component string, err error)
}

// ListingOptions of a Listing.
type ListingOptions struct {
	Sources    []config.Source // those without listing are left out
	Lister     Lister
	Announcer  *Announcer
	Log        LogReader
	Partitions func(ctx context.Context) (int32, error) // of `objects`
	Horizon    time.Duration                            // how far the log is read back
	Remember   int                                      // objects, over all sources
	Health     Health
	Logger     *slog.Logger
}

// Listing announces what listings find. What was announced already it learns
// from the topic itself: from the announcements within the horizon, and from
// notes of all before them, which it writes now and then. So a restart announces
// nothing twice, and what comes late (a replica, an upload in parts, a key that
// sorts before others) is found, however old it claims to be.
type Listing struct {
	opts   ListingOptions
	owner  *ownership
	number int32 // of partitions

	mu    sync.Mutex // held while the log is read back
	known map[string]*knowledge
}

// knowledge of one source, for one term of office: what others announced in
// between is not in it.
type knowledge struct {
	term      uint64
	announced *announced
}

// NewListing makes a Listing that lists nothing until partitions are assigned.
func NewListing(opts ListingOptions) *Listing {
	l := &Listing{opts: opts, owner: newOwnership(), known: make(map[string]*knowledge)}
	l.opts.Sources = nil
	for i := range opts.Sources {
		if opts.Sources[i].Listing.Enabled {
			l.opts.Sources = append(l.opts.Sources, opts.Sources[i])
		}
	}
	return l
}

// Assigned and Revoked tell which partitions of `objects` this instance has.
func (l *Listing) Assigned(positions map[int32]int64) { l.owner.assigned(positions) }

// Revoked is the counterpart of Assigned.
func (l *Listing) Revoked(partitions []int32) { l.owner.revoked(partitions) }

// Run lists until ctx is done.
func (l *Listing) Run(ctx context.Context) error {
	if len(l.opts.Sources) == 0 {
		return nil
	}
	for try := 0; ; try++ {
		var err error
		if l.number, err = l.opts.Partitions(ctx); err == nil && l.number > 0 {
			break
		}
		if !delay.For(ctx, backoff(try)) {
			return nil
		}
	}
	var sources sync.WaitGroup
	for i := range l.opts.Sources {
		sources.Go(func() { l.runSource(ctx, &l.opts.Sources[i]) })
	}
	sources.Wait()
	return nil
}

// runSource lists one source whenever it is this instance's turn.
func (l *Listing) runSource(ctx context.Context, source *config.Source) {
	component := "listing " + source.ID
	failures := 0
	reported := false
	for ctx.Err() == nil {
		term, changed := l.owner.term(partitionOf(source.ID, l.number))
		if term == 0 {
			l.forget(source.ID)
			if reported { // how it goes is another instance's to say
				l.opts.Health.Report(component, nil)
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		err := l.pass(ctx, source, term)
		if ctx.Err() != nil {
			return
		}
		l.opts.Health.Report(component, err)
		reported = true
		wait := source.Listing.Interval
		if err == nil {
			failures = 0
		} else {
			l.opts.Logger.Debug("listing failed", "source", source.ID, "error", err)
			wait = max(wait, backoff(failures))
			failures++
		}
		l.rest(ctx, source, term, wait)
	}
}

// rest waits until it is time for the next pass, or another's turn.
func (l *Listing) rest(ctx context.Context, source *config.Source, term uint64, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		now, changed := l.owner.term(partitionOf(source.ID, l.number))
		if now != term {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// pass lists the source once and announces what is new.
func (l *Listing) pass(ctx context.Context, source *config.Source, term uint64) (err error) {
	metrics := l.opts.Announcer.metrics
	started := time.Now()
	defer func() {
		if err != nil {
			metrics.listings.WithLabelValues("failed").Inc()
			return
		}
		metrics.listings.WithLabelValues("complete").Inc()
		metrics.seconds.Observe(time.Since(started).Seconds())
	}()
	known, err := l.recall(ctx, source.ID, term)
	if err != nil {
		return err
	}
	known.beginPass()
	var waiting UnderWay
	selects := source.Selector()
	listErr := l.opts.Lister.List(ctx, source.Bucket, source.Prefix, "", func(listed objectstore.Listed) error {
		if !selects(listed.Key) {
			return nil
		}
		id, _ := parseID(l.opts.Announcer.ID(source.Bucket, listed.Key, listed.ETag)) // of our own making
		if known.seen(id) {
			return nil
		}
		if reason := ReasonToSkip(listed.Key, listed.Size); reason != "" {
			metrics.skipped.WithLabelValues(reason).Inc()
			known.add(id)
			return nil
		}
		found := Found{
			Source: source.ID, Bucket: source.Bucket, Key: listed.Key, ETag: listed.ETag, Size: listed.Size,
			LastModified: listed.LastModified, Cause: topics.CauseListed,
		}
		waiting.Begin()
		l.opts.Announcer.Announce(ctx, found, func(err error) {
			// Remembered only now that it is durable: died or failed before, the next
			// pass finds it new.
			if err == nil {
				known.add(id)
			}
			waiting.End(err)
		})
		return ctx.Err()
	})
	// Announcements under way add to what is known, so it ends after them.
	if err := waiting.Wait(); err != nil {
		return err
	}
	if listErr != nil {
		return listErr
	}
	l.endPass(source, known)
	return l.note(ctx, source.ID, known)
}

func (l *Listing) endPass(source *config.Source, known *announced) {
	kept, spilled := known.endPass()
	if spilled > 0 {
		l.opts.Announcer.metrics.spilled.Add(float64(spilled))
		l.opts.Logger.Warn("more objects are listed than can be remembered; the others are announced with every pass "+
			"and skipped later (fetcher.dedupeObjects)", "source", source.ID, "remembered", kept, "others", spilled)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	total := 0
	for _, k := range l.known {
		total += k.announced.size()
	}
	l.opts.Announcer.metrics.listed.Set(float64(total))
}

// ReasonToSkip is why an object is not announced, or empty. What ends in a slash
// stands for a folder as long as nothing is in it.
func ReasonToSkip(key string, size int64) string {
	switch {
	case strings.HasSuffix(key, "/") && size == 0:
		return skippedDirectory
	case size == 0:
		return skippedEmpty
	}
	return ""
}

// recall gives what is known to be announced of a source. The log is read for
// all sources at once that need it.
func (l *Listing) recall(ctx context.Context, source string, term uint64) (*announced, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.known[source]; k != nil && k.term == term {
		return k.announced, nil
	}
	fresh := make(map[string]*knowledge)
	for i := range l.opts.Sources {
		id := l.opts.Sources[i].ID
		now, _ := l.owner.term(partitionOf(id, l.number))
		if id == source {
			now = term
		}
		if k := l.known[id]; now != 0 && (k == nil || k.term != now) {
			fresh[id] = &knowledge{now, newAnnounced(max(l.opts.Remember/len(l.opts.Sources), 1))}
		}
	}
	reading := newReading(fresh)
	if err := l.opts.Log.All(ctx, time.Now().Add(-l.opts.Horizon), reading.take); err != nil {
		return nil, fmt.Errorf("read back what was announced: %w", err)
	}
	reading.end()
	for id, k := range fresh {
		l.known[id] = k
		l.opts.Logger.Debug("announcements read back", "source", id, "objects", k.announced.size())
	}
	return fresh[source].announced, nil
}

func (l *Listing) forget(source string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, source)
}

func backoff(try int) time.Duration {
	wait := min(firstBackoff<<min(try, 10), longestBackoff)
	return wait/2 + rand.N(wait/2) //nolint:gosec // not a secret
}
