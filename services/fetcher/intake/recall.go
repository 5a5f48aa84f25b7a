package intake

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/topics"
)

// reading is one reading back of the log: what it says was announced, of the
// sources in known.
//
// An announcement that is in the log is one that split reads or has read. A note
// only repeats that there was one. So where announcements are missing from the
// log unread, which a void tells, notes written without knowing of it are not
// believed, and what is still in the bucket is announced again.
type reading struct {
	known map[string]*knowledge
	voids map[int32][]string // by partition, the names of the voids so far
	home  map[string]int32   // by source, the partition of its notes
}

func newReading(known map[string]*knowledge) *reading {
	return &reading{known: known, voids: make(map[int32][]string), home: make(map[string]int32)}
}

// take is given the records of each partition in the order of the log.
func (r *reading) take(record *kgo.Record) {
	if topics.IsNoted(record) {
		r.takeNote(record)
		return
	}
	object, err := topics.DecodeObject(record.Value)
	if err != nil {
		return // split sets it aside
	}
	if k := r.known[object.Source]; k != nil && object.Cause.Announces() {
		if id, ok := parseID(object.ID); ok {
			k.announced.add(id)
		}
	}
}

func (r *reading) takeNote(record *kgo.Record) {
	note, err := topics.DecodeNoted(record.Value)
	if err != nil {
		return // not of our making; what it would have told is announced again
	}
	if note.Void != nil {
		r.takeVoid(record.Partition, note.Void)
		return
	}
	k := r.known[note.Source]
	if k == nil {
		return
	}
	r.home[note.Source] = record.Partition
	for _, void := range r.voids[record.Partition] {
		if !slices.Contains(note.Knows, void) {
			return // written by one who had not heard of it yet
		}
	}
	for _, id := range note.IDs {
		k.announced.addNoted(id)
	}
	if note.Last && record.Timestamp.After(k.announced.noted) {
		k.announced.noted = record.Timestamp
	}
}

func (r *reading) takeVoid(partition int32, void *topics.Void) {
	if slices.Contains(r.voids[partition], void.Name()) {
		return
	}
	r.voids[partition] = append(r.voids[partition], void.Name())
	for source, home := range r.home {
		if home == partition {
			r.known[source].announced.forgetNoted()
		}
	}
}

// end says which voids each source's knowledge takes into account: those found
// before or among its notes. Without notes there was nothing to void.
func (r *reading) end() {
	var all []string
	for _, voids := range r.voids {
		all = append(all, voids...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	for source, k := range r.known {
		k.announced.knows = all
		if home, noted := r.home[source]; noted {
			k.announced.knows = r.voids[home]
		}
	}
}
