package intake

import (
	"context"
	"fmt"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/services/fetcher/notification"
	"github.com/auditstream/auditstream/topics"
)

// Told gives the announcements of a message's body that was set aside, as if
// it came from a queue now. Objects that a source does not select are left out,
// as they are there.
func Told(ctx context.Context, sources []config.Source, alias string, store Stater, body []byte) ([]topics.Object, error) {
	told, err := notification.Parse(body)
	if err != nil {
		return nil, err
	}
	var followed []config.Source
	for i := range sources {
		if sources[i].Queue.URL != "" {
			followed = append(followed, sources[i])
		}
	}
	router := newRouter(followed)
	var objects []topics.Object
	for i := range told.Events {
		event := &told.Events[i]
		source, skipped := router.find(event)
		if skipped != "" {
			continue
		}
		found := Found{
			Source: source.ID, Bucket: event.Bucket, Key: event.Key, ETag: event.ETag, Version: event.Version,
			Region: event.Region, Size: max(event.Size, 0), LastModified: event.Time, Cause: topics.CauseNotified,
		}
		if isIncomplete(event) {
			listed, err := store.Stat(ctx, found.Bucket, found.Key, found.Version)
			if err != nil {
				return nil, fmt.Errorf("complete what is told of s3://%s/%s: %w", found.Bucket, found.Key, err)
			}
			if ReasonToSkip(listed.Key, listed.Size) != "" {
				continue
			}
			found.ETag, found.Size, found.LastModified = listed.ETag, max(listed.Size, 0), listed.LastModified
		}
		objects = append(objects, found.object(alias))
	}
	return objects, nil
}
