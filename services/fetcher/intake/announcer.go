package intake

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/topics"
)

// Found is an object that some intake came across.
type Found struct {
	Source       string
	Bucket, Key  string // the key decoded
	ETag         string // without quotes
	Version      string
	Region       string
	Size         int64
	LastModified time.Time
	Cause        topics.Cause
}

// Announcer writes announcements to the topic `objects`, keyed by object id.
type Announcer struct {
	client  *kgo.Client
	topic   string
	alias   string // of the object store
	metrics *metrics
}

// NewAnnouncer writes with an idempotent client that waits for all replicas.
// The client's partitioner must hash keys.
func NewAnnouncer(client *kgo.Client, topic, alias string, m *Metrics) *Announcer {
	return &Announcer{client: client, topic: topic, alias: alias, metrics: m.metrics}
}

// ID of an object in this store.
func (a *Announcer) ID(bucket, key, etag string) string {
	return identity.ObjectID(a.alias, bucket, key, etag)
}

// Announce produces the announcement and calls done once it is durable, or
// can't become so. Only after done(nil) may whatever told of the object be
// forgotten. It waits while too much is under way.
func (a *Announcer) Announce(ctx context.Context, found Found, done func(error)) {
	object := found.object(a.alias)
	record, err := object.Record(a.topic)
	if err != nil {
		done(fmt.Errorf("announce %s: %w", object.URI(), err))
		return
	}
	a.client.Produce(ctx, record, func(_ *kgo.Record, err error) {
		if err != nil {
			done(fmt.Errorf("announce %s: %w", object.URI(), err))
			return
		}
		a.metrics.announced.WithLabelValues(string(found.Cause)).Inc()
		done(nil)
	})
}

// object is what is announced of it.
func (f *Found) object(alias string) topics.Object {
	return topics.Object{
		ID:           identity.ObjectID(alias, f.Bucket, f.Key, f.ETag),
		Source:       f.Source,
		Endpoint:     alias,
		Region:       f.Region,
		Bucket:       f.Bucket,
		Key:          f.Key,
		ETag:         f.ETag,
		Version:      f.Version,
		Size:         f.Size,
		LastModified: f.LastModified,
		AnnouncedAt:  time.Now().UTC(),
		Cause:        f.Cause,
		FromLine:     1,
	}
}

// Flush waits until everything announced is durable or has failed.
func (a *Announcer) Flush(ctx context.Context) error {
	if err := a.client.Flush(ctx); err != nil {
		return fmt.Errorf("wait for announcements: %w", err)
	}
	return nil
}
