package intake

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/auditstream/auditstream/pkg/identity"
)

// objectID is the first half of an object's id. Of ten million objects no two
// have the same but by a chance of one in a hundred thousand.
type objectID uint64

func parseID(text string) (objectID, bool) {
	if len(text) != identity.ObjectIDLength {
		return 0, false
	}
	id, err := strconv.ParseUint(text[:16], 16, 64)
	return objectID(id), err == nil
}

// announced are the ids of one source's objects that need not be announced
// again. An object that is no longer listed is forgotten after the pass that
// did not find it, so the set is never larger than the bucket, nor than most:
// what finds no room is announced again with each pass, and skipped by split.
//
// Ids are added by the goroutine that confirms announcements.
type announced struct {
	mu    sync.Mutex
	ids   map[objectID]uint8 // the pass that saw it last
	pass  uint8
	most  int
	spill int // of this pass: had no room

	noted time.Time // when the ids were written to the log as a whole
}

func newAnnounced(most int) *announced {
	return &announced{ids: make(map[objectID]uint8), most: most}
}

func (a *announced) beginPass() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pass++
	a.spill = 0
}

// seen tells whether the object is known, and that this pass has found it.
func (a *announced) seen(id objectID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, known := a.ids[id]
	if known {
		a.ids[id] = a.pass
	}
	return known
}

func (a *announced) add(id objectID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.ids[id]; !known && len(a.ids) >= a.most {
		a.spill++
		return
	}
	a.ids[id] = a.pass
}

// endPass forgets what a complete pass has not found. It gives the number of
// ids kept, and how many had no room.
func (a *announced) endPass() (kept, spilled int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, pass := range a.ids {
		if pass != a.pass {
			delete(a.ids, id)
		}
	}
	return len(a.ids), a.spill
}

func (a *announced) size() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ids)
}

// all are the ids, in no order.
func (a *announced) all() []objectID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Keys(a.ids))
}
