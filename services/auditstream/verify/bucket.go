package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/services/fetcher/intake"
)

// Store lists buckets; *objectstore.Store is one.
type Store interface {
	Alias() string
	List(ctx context.Context, bucket, prefix, startAfter string, yield func(objectstore.Listed) error) error
}

// Bucket is where the sources' objects come from.
type Bucket struct {
	Store   Store
	Sources []config.Source
}

// lookIntoBuckets finds objects that were never announced: those of a source, in
// the time asked for, that the ledger does not know.
func (v *verification) lookIntoBuckets(ctx context.Context) error {
	for i := range v.opts.Bucket.Sources {
		source := &v.opts.Bucket.Sources[i]
		if v.opts.Source != "" && source.ID != v.opts.Source {
			continue
		}
		if err := v.lookInto(ctx, source); err != nil {
			return fmt.Errorf("source %s: %w", source.ID, err)
		}
	}
	return nil
}

func (v *verification) lookInto(ctx context.Context, source *config.Source) error {
	store, selects := v.opts.Bucket.Store, source.Selector()
	absent := make(map[string]Problem)
	settle := func() error {
		ids := make([]string, 0, len(absent))
		for id := range absent {
			ids = append(ids, id)
		}
		// The ledger may know it by another time than the bucket, or as expired.
		if err := v.tables.known(ctx, ids, func(object string) { delete(absent, object) }); err != nil {
			return err
		}
		for _, problem := range absent {
			v.problems = append(v.problems, problem)
		}
		clear(absent)
		return nil
	}
	err := store.List(ctx, source.Bucket, source.Prefix, "", func(listed objectstore.Listed) error {
		if !selects(listed.Key) || intake.ReasonToSkip(listed.Key, listed.Size) != "" || !v.inTime(source, listed.LastModified) {
			return ctx.Err()
		}
		id := identity.ObjectID(store.Alias(), source.Bucket, listed.Key, listed.ETag)
		if v.where.objects != nil && !slices.Contains(v.where.objects, id) {
			return ctx.Err()
		}
		v.report.Listed++
		if v.seen[id] {
			return ctx.Err()
		}
		absent[id] = Problem{
			Object: id, URI: "s3://" + source.Bucket + "/" + listed.Key, Workspace: source.Workspace, Source: source.ID,
			ReceivedAt: listed.LastModified, Unannounced: true,
		}
		if len(absent) >= lotOfObjects {
			return settle()
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	if len(absent) == 0 {
		return nil
	}
	return settle()
}

// inTime tells whether an object is of the time asked for, and not so old that
// its rows and its entry have expired.
func (v *verification) inTime(source *config.Source, at time.Time) bool {
	expiry := at.AddDate(0, 0, int(source.TTLDays))
	return !at.Before(v.opts.Since) && (v.opts.Until.IsZero() || at.Before(v.opts.Until)) &&
		(source.TTLDays == 0 || expiry.Unix() > int64(v.tables.now)+slack)
}
