package replay

import (
	"context"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/topics"
)

// filter says which records are wanted.
type filter struct {
	source  string
	objects map[string]bool // by id; nil: all
}

func (f *filter) empty() bool { return f.source == "" && f.objects == nil }

// onlyObject is the one object that is wanted, "" when there is no such.
func (f *filter) onlyObject() string {
	if len(f.objects) != 1 {
		return ""
	}
	for id := range f.objects {
		return id
	}
	return ""
}

func (f *filter) wants(source, object string) bool {
	return (f.source == "" || source == f.source) && (f.objects == nil || f.objects[object])
}

// wantsLine reads a record of `raw`. One that is none of its topic is wanted:
// it is counted as rejected then.
func (f *filter) wantsLine(record *kgo.Record) bool {
	if f.empty() {
		return true
	}
	line, err := topics.DecodeRawLine(record)
	return err != nil || f.wants(line.Source, line.Object)
}

// wantsRow reads a record of `normalized`.
func (f *filter) wantsRow(record *kgo.Record, row *event.Row) (bool, error) {
	if f.empty() {
		return true, nil
	}
	if err := topics.DecodeNormalized(record.Value, row); err != nil {
		return false, err
	}
	object, _, _ := strings.Cut(row.ID, "-")
	return f.wants(row.SourceID, object), nil
}

// newFilter finds the ids of an object that is named by its address: all that
// were announced under it, or the one that is there now.
func (r *replay) newFilter(ctx context.Context) (filter, error) {
	f := filter{source: r.Source}
	if r.Object == "" {
		return f, nil
	}
	bucket, key, isURI := topics.ParseURI(r.Object)
	if !isURI {
		if !identity.IsObjectID(r.Object) {
			return f, refuse("--object %s is neither an S3 address nor an object id", r.Object)
		}
		f.objects = map[string]bool{r.Object: true}
		return f, nil
	}
	if key == "" {
		return f, refuse("--object %s names no object", r.Object)
	}
	alias, err := objectstore.Alias(r.Config.S3)
	if err != nil {
		return f, err
	}
	f.objects = make(map[string]bool)
	err = r.announced(ctx, func(o *topics.Object) {
		if o.Endpoint == alias && o.Bucket == bucket && o.Key == key {
			f.objects[o.ID] = true
		}
	})
	if err != nil || len(f.objects) > 0 {
		return f, err
	}
	store, err := objectstore.New(ctx, r.Config.S3, objectstore.Options{
		Sources: r.Config.Sources, StallTimeout: r.Config.Fetcher.StallTimeout, Log: r.Log,
	})
	if err != nil {
		return f, err
	}
	found, err := store.Stat(ctx, bucket, key, "")
	if err != nil {
		return f, fmt.Errorf("%s is not in the topic %s any more: %w", r.Object, r.names.Objects, err)
	}
	f.objects[identity.ObjectID(alias, bucket, key, found.ETag)] = true
	return f, nil
}

// announced goes through all announcements in the topic `objects`.
func (r *replay) announced(ctx context.Context, yield func(*topics.Object)) error {
	bounds, err := kafka.Bounds(ctx, r.admin, r.names.Objects, zeroTime, zeroTime)
	if err != nil {
		return err
	}
	return r.scanObjects(ctx, bounds, yield)
}

func (r *replay) scanObjects(ctx context.Context, ranges kafka.Ranges, yield func(*topics.Object)) error {
	options, err := kafka.Options(r.Config.Kafka, r.Log, nil)
	if err != nil {
		return err
	}
	return kafka.Scan(ctx, options, ranges, func(record *kgo.Record) error {
		object, err := topics.DecodeObject(record.Value)
		if err == nil && object.Cause.Announces() {
			yield(&object)
		}
		return nil // what is no announcement is the fetcher's business
	})
}
