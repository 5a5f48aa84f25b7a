package intake

import (
	"encoding/hex"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/topics"
)

// objectID is an object's id as bytes, whole: with less of it, two objects might
// be taken for one, and one of them never be announced.
type objectID = topics.NotedID

func parseID(text string) (id objectID, ok bool) {
	if len(text) != identity.ObjectIDLength {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(text))
	return id, err == nil
}

// fromNote marks ids that are known from notes alone. It is no pass that such an
// id could be found in: the first pass replaces or forgets all of them.
const fromNote = 255

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
	knows []string  // the voids that are taken into account
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

// addNoted is add for what a note says, before the first pass.
func (a *announced) addNoted(id objectID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.ids[id]; !known && len(a.ids) < a.most {
		a.ids[id] = fromNote
	}
}

// forgetNoted takes back what notes alone said.
func (a *announced) forgetNoted() {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.ids, func(_ objectID, pass uint8) bool { return pass == fromNote })
	a.noted = time.Time{}
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
