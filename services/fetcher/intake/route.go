package intake

import (
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/services/fetcher/notification"
)

// router finds the one source of an object, among those of a queue. The
// configuration was refused if there could be two.
type router struct {
	routes map[string][]route // by bucket
}

type route struct {
	source  *config.Source
	selects func(key string) bool
}

func newRouter(sources []config.Source) *router {
	r := &router{routes: make(map[string][]route)}
	for i := range sources {
		source := &sources[i]
		r.routes[source.Bucket] = append(r.routes[source.Bucket], route{source, source.Selector()})
	}
	return r
}

// find gives the source that an event's object is to be announced for, or why
// it is not to be.
func (r *router) find(event *notification.Event) (source *config.Source, skipped string) {
	routes, known := r.routes[event.Bucket]
	if !known {
		return nil, skippedBucket
	}
	for _, route := range routes {
		if !route.selects(event.Key) {
			continue
		}
		if !route.source.Queue.Follows(event.Name) {
			return nil, skippedEvent
		}
		reason := ReasonToSkip(event.Key, event.Size)
		if reason == skippedEmpty && event.ETag != etagOfNothing {
			reason = ""
		}
		return route.source, reason
	}
	return nil, skippedFiltered
}

// etagOfNothing is the MD5 of no bytes. An event that tells of another content
// without bytes is not taken at its word: Ceph has told so of uploads in parts.
const etagOfNothing = "d41d8cd98f00b204e9800998ecf8427e"

// isIncomplete tells whether the store has to be asked for what the event says.
// The ETag is a part of the object's id, which has to be the one that a listing
// finds.
func isIncomplete(event *notification.Event) bool { return event.ETag == "" || event.Size == 0 }
