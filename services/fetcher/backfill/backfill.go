// Package backfill announces what is in a bucket already, once: the objects
// below a prefix that S3 received within a time. It stands beside the fetcher's
// intake and writes what intake writes, with the same identity, so that what a
// notification or a listing announces too is skipped by split.
package backfill

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/services/fetcher/intake"
	"github.com/auditstream/auditstream/topics"
)

const (
	// stretch is how many keys are listed between two notes of the progress.
	stretch    = 1000
	saveEvery  = time.Second
	concurrent = 16

	// mostTries of a part of the listing that come to nothing, and what is between.
	mostTries    = 8
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
)

// Lister lists a bucket; *objectstore.Store is one.
type Lister interface {
	List(ctx context.Context, bucket, prefix, startAfter string, yield func(objectstore.Listed) error) error
	Prefixes(ctx context.Context, bucket, prefix, delimiter string) (prefixes []string, more bool, err error)
}

// Announcer announces objects; *intake.Announcer is one.
type Announcer interface {
	Announce(ctx context.Context, found intake.Found, done func(error))
}

// Ledger knows which objects were fetched as a whole.
type Ledger interface {
	// Complete gives those of the ids; the store received their objects from
	// since to until.
	Complete(ctx context.Context, ids []string, since, until time.Time) ([]string, error)
}

// Totals of a listing.
type Totals struct {
	Listed    int64 `json:"listed"`
	Announced int64 `json:"announced"`
	Complete  int64 `json:"complete"` // by the ledger, and so not announced
	Bytes     int64 `json:"bytes"`    // stored, of those announced
	Skipped   int64 `json:"skipped"`  // empty, directories, and those not of the source
	Outside   int64 `json:"outside"`  // of the time
}

func (t *Totals) add(other Totals) {
	t.Listed += other.Listed
	t.Announced += other.Announced
	t.Complete += other.Complete
	t.Bytes += other.Bytes
	t.Skipped += other.Skipped
	t.Outside += other.Outside
}

// Options of a backfill.
type Options struct {
	Job       Job
	Selects   func(key string) bool // whether a key is the source's
	Lister    Lister
	Announcer Announcer // nil: nothing is announced, and no progress kept (a dry run)
	Ledger    Ledger    // nil: is not asked
	// File keeps the progress. It is removed when all is announced.
	File string
	// OnProgress is told once in a while how far it is.
	OnProgress func(Totals, int, int) // and how many ranges are done, of how many
}

// Run announces until all is announced, ctx is done, or something fails. Run
// again with the same job and file it goes on where it was.
func Run(ctx context.Context, opts Options) (Totals, error) {
	b := &backfill{Options: opts}
	var err error
	if b.Announcer != nil {
		if b.progress, err = load(b.File, b.Job); err != nil {
			return Totals{}, err
		}
	}
	if b.progress == nil {
		b.progress = &Progress{Version: progressVersion, Job: b.Job}
		if b.progress.Ranges, err = cut(ctx, b.Lister, b.Job.Bucket, b.Job.Prefix); err != nil {
			return Totals{}, err
		}
		if err := b.save(); err != nil { // before anything is announced: the file may not be writable
			return Totals{}, err
		}
	}
	b.Job = b.progress.Job
	err = b.run(ctx)
	totals, _ := b.totals()
	if err != nil {
		return totals, errors.Join(err, b.save())
	}
	if b.Announcer != nil {
		if err := os.Remove(b.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return totals, fmt.Errorf("remove the progress: %w", err)
		}
	}
	return totals, nil
}

type backfill struct {
	Options

	mu       sync.Mutex // guards what follows
	progress *Progress
	saved    time.Time
}

func (b *backfill) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrent)
	for i := range b.progress.Ranges {
		b.mu.Lock()
		done := b.progress.Ranges[i].Done
		b.mu.Unlock()
		if done {
			continue
		}
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return b.listPatiently(ctx, i)
		})
	}
	return group.Wait()
}

// ErrOrder: the store does not list keys in the order of their bytes, as S3
// does, so no part of a listing can be told from the others.
var ErrOrder = errors.New("the store lists keys out of order")

var errEndOfRange = errors.New("end of the range")

// listPatiently goes on where it was while the store is away for a short time:
// a listing of days should not end with one bad minute.
func (b *backfill) listPatiently(ctx context.Context, i int) error {
	position := func() string {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.progress.Ranges[i].from()
	}
	spacing := &backoff.ExponentialBackOff{InitialInterval: firstPause, Multiplier: 2, MaxInterval: longestPause}
	tries := 0
	var err error // of the last try, whatever ended the trying
	_, _ = backoff.Retry(ctx, func() (struct{}, error) {
		before := position()
		err = b.list(ctx, i)
		if tries++; position() != before {
			tries = 1
			spacing.Reset()
		}
		if errors.Is(err, objectstore.ErrUnavailable) && tries < mostTries {
			return struct{}{}, err
		}
		return struct{}{}, backoff.Permanent(err)
	}, backoff.WithBackOff(spacing), backoff.WithMaxElapsedTime(0))
	return err
}

// list works on one range, a stretch of keys at a time: the announcements of a
// stretch are durable before its end is noted as passed.
func (b *backfill) list(ctx context.Context, i int) error {
	b.mu.Lock()
	part := b.progress.Ranges[i]
	b.mu.Unlock()

	var totals Totals               // of the stretch
	var chosen []objectstore.Listed // of it
	last := part.from()
	pass := func(done bool) error {
		if err := b.announce(ctx, chosen, &totals); err != nil {
			return err
		}
		err := b.pass(i, last, totals, done)
		totals, chosen = Totals{}, chosen[:0]
		return err
	}
	err := b.Lister.List(ctx, b.Job.Bucket, b.Job.Prefix, part.from(), func(listed objectstore.Listed) error {
		if listed.Key <= last && last != "" {
			return fmt.Errorf("%w: %q after %q", ErrOrder, listed.Key, last)
		}
		if part.UpTo != "" && listed.Key > part.UpTo {
			return errEndOfRange
		}
		last = listed.Key
		totals.Listed++
		if b.chooses(&listed, &totals) {
			chosen = append(chosen, listed)
		}
		if totals.Listed == stretch {
			if err := pass(false); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, errEndOfRange) {
		return err // what was chosen since the last stretch is listed again
	}
	return pass(true)
}

// chooses tells whether an object is to be announced, or counts why not.
func (b *backfill) chooses(listed *objectstore.Listed, totals *Totals) bool {
	switch {
	case !b.Selects(listed.Key) || intake.ReasonToSkip(listed.Key, listed.Size) != "":
		totals.Skipped++
		return false
	case listed.LastModified.Before(b.Job.Since),
		!b.Job.Until.IsZero() && !listed.LastModified.Before(b.Job.Until):
		totals.Outside++
		return false
	}
	return true
}

// announce announces the objects of a stretch, but for those that the ledger
// knows to be complete, and waits until that is durable.
func (b *backfill) announce(ctx context.Context, chosen []objectstore.Listed, totals *Totals) error {
	complete, err := b.complete(ctx, chosen)
	if err != nil {
		return err
	}
	var underWay intake.UnderWay
	for i := range chosen {
		listed := &chosen[i]
		if complete[b.id(listed)] {
			totals.Complete++
			continue
		}
		totals.Announced++
		totals.Bytes += listed.Size
		if b.Announcer == nil {
			continue
		}
		underWay.Begin()
		b.Announcer.Announce(ctx, intake.Found{
			Source: b.Job.Source, Bucket: b.Job.Bucket, Key: listed.Key, ETag: listed.ETag, Size: listed.Size,
			LastModified: listed.LastModified, Cause: topics.CauseBackfill,
		}, underWay.End)
	}
	return underWay.Wait()
}

func (b *backfill) id(listed *objectstore.Listed) string {
	return identity.ObjectID(b.Job.Store, b.Job.Bucket, listed.Key, listed.ETag)
}

// complete are the ids that the ledger knows.
func (b *backfill) complete(ctx context.Context, chosen []objectstore.Listed) (map[string]bool, error) {
	if b.Ledger == nil || len(chosen) == 0 {
		return nil, nil
	}
	ids := make([]string, len(chosen))
	since, until := chosen[0].LastModified, chosen[0].LastModified
	for i := range chosen {
		ids[i] = b.id(&chosen[i])
		if at := chosen[i].LastModified; at.Before(since) {
			since = at
		} else if at.After(until) {
			until = at
		}
	}
	found, err := b.Ledger.Complete(ctx, ids, since, until)
	if err != nil {
		return nil, err
	}
	complete := make(map[string]bool, len(found))
	for _, id := range found {
		complete[id] = true
	}
	return complete, nil
}

// pass notes that a range is announced up to a key.
func (b *backfill) pass(i int, last string, totals Totals, done bool) error {
	b.mu.Lock()
	part := &b.progress.Ranges[i]
	part.Passed, part.Done = last, done
	part.add(totals)
	due := time.Since(b.saved) >= saveEvery
	if due {
		b.saved = time.Now()
	}
	b.mu.Unlock()
	if !due {
		return nil
	}
	if b.OnProgress != nil {
		all, ranges := b.totals()
		b.OnProgress(all, ranges, len(b.progress.Ranges))
	}
	return b.save()
}

func (b *backfill) totals() (all Totals, done int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.progress.Ranges {
		all.add(b.progress.Ranges[i].Totals)
		if b.progress.Ranges[i].Done {
			done++
		}
	}
	return all, done
}

func (b *backfill) save() error {
	if b.Announcer == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.progress.save(b.File)
}
