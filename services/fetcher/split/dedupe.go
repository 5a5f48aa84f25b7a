package split

import (
	"context"
	"encoding/hex"
	"log/slog"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/topics"
)

// announcement is what is announced: an object, and which deliberate doing of
// it. Deliberate repeats raise the generation.
type announcement struct {
	object     [identity.ObjectIDLength / 2]byte
	generation int32
}

// first is the first announcement of something: the one that is followed. Each
// later one prolongs how long it is remembered, so that the answer is a matter
// of the records within the horizon alone: an owner that has read only those
// gives the same as one that has seen all before.
type first struct {
	offset int64
	at     int64 // ms, timestamp of the last announcement
}

// remembered is one announcement in the order of the log.
type remembered struct {
	key announcement
	at  int64 // ms
}

// history is what was announced in one partition: of each announcement the
// lowest offset. It is a copy of the log up to the committed offset; what a
// transaction adds and forgets is undone when it aborts.
type history struct {
	lowest  map[announcement]first
	order   []remembered // by offset; the oldest leave first
	gone    int          // how many of order have left
	newest  int64        // ms, the latest timestamp seen
	dropped bool         // no longer ours
}

// change is what a transaction did to one announcement, and mark how a history
// was when it began.
type change struct {
	history *history
	key     announcement
	before  first
	had     bool
}

type mark struct {
	order, gone int
	newest      int64
}

// logReader reads parts of the topic `objects` back.
type logReader interface {
	Earliest(ctx context.Context, positions map[int32]int64) (time.Time, error)
	Until(ctx context.Context, ends map[int32]int64, since time.Time, yield func(*kgo.Record)) error
}

// dedupe answers whether an announcement is the first of its kind. What counts
// is the order of the log, per partition: the key is the object id, so all
// announcements of an object are in one partition.
type dedupe struct {
	log     logReader
	horizon time.Duration
	most    int // announcements remembered, repeated ones too, over all partitions
	metrics *Metrics
	slog    *slog.Logger

	partitions map[int32]*history
	count      int
	full       bool // said so already

	changes []change // of the open transaction, in order
	marks   map[*history]mark
}

func newDedupe(log logReader, horizon time.Duration, most int, m *Metrics, l *slog.Logger) *dedupe {
	return &dedupe{log: log, horizon: horizon, most: most, metrics: m, slog: l, partitions: make(map[int32]*history), marks: make(map[*history]mark)}
}

// load reads the history of newly assigned partitions back, each up to the
// offset where work goes on; from there on it grows with the work.
//
// The horizon reaches back from the record there, not from now: how far the
// group lags must not decide what is a duplicate.
func (d *dedupe) load(ctx context.Context, positions map[int32]int64) error {
	loaded := make(map[int32]*history, len(positions))
	for partition := range positions {
		d.drop(partition)
		loaded[partition] = &history{lowest: make(map[announcement]first)}
	}
	earliest, err := d.log.Earliest(ctx, positions)
	if err != nil {
		return err
	}
	err = d.log.Until(ctx, positions, earliest.Add(-d.horizon), func(record *kgo.Record) {
		if topics.IsNoted(record) {
			return
		}
		object, err := topics.DecodeObject(record.Value)
		if h := loaded[record.Partition]; err == nil && h != nil && object.Cause.Announces() {
			d.add(h, &object, record)
		}
	})
	if err != nil {
		d.count -= size(loaded)
		return err
	}
	maps.Copy(d.partitions, loaded)
	d.metrics.dedupeEntries.Set(float64(d.count))
	d.slog.Debug("announcements read back", "partitions", len(positions), "announcements", size(loaded))
	return nil
}

func size(histories map[int32]*history) int {
	n := 0
	for _, h := range histories {
		n += h.size()
	}
	return n
}

// drop forgets a partition that is no longer ours.
func (d *dedupe) drop(partition int32) {
	if h := d.partitions[partition]; h != nil {
		d.count -= h.size()
		h.dropped = true
		delete(d.partitions, partition)
		d.metrics.dedupeEntries.Set(float64(d.count))
	}
}

// committed makes the last transaction's changes final.
func (d *dedupe) committed() {
	for h := range d.marks {
		h.compact()
	}
	d.changes = d.changes[:0]
	clear(d.marks)
}

// aborted undoes them: the same records come again, and must get the same
// answers, here and from another owner.
func (d *dedupe) aborted() {
	for i := len(d.changes) - 1; i >= 0; i-- {
		c := &d.changes[i]
		if c.history.dropped {
			continue
		}
		if c.had {
			c.history.lowest[c.key] = c.before
		} else {
			delete(c.history.lowest, c.key)
		}
	}
	for h, m := range d.marks {
		if !h.dropped {
			d.count -= h.size()
			h.order, h.gone, h.newest = h.order[:m.order], m.gone, m.newest
			d.count += h.size()
		}
	}
	d.changes = d.changes[:0]
	clear(d.marks)
	d.metrics.dedupeEntries.Set(float64(d.count))
}

// isFirst tells whether the record is the first announcement of the object
// within the horizon. It is asked in the order of the log.
func (d *dedupe) isFirst(object *topics.Object, record *kgo.Record) bool {
	before := d.add(d.change(record.Partition), object, record)
	d.metrics.dedupeEntries.Set(float64(d.count))
	return before.offset == record.Offset
}

// change gives a partition's history to be changed by the open transaction.
func (d *dedupe) change(partition int32) *history {
	h := d.partitions[partition]
	if h == nil {
		h = &history{lowest: make(map[announcement]first)}
		d.partitions[partition] = h
	}
	if _, marked := d.marks[h]; !marked {
		d.marks[h] = mark{len(h.order), h.gone, h.newest}
	}
	return h
}

// forgetBelow forgets announcements that came before an offset and are missing
// from the log, as an owner that reads it back does not find them either.
func (d *dedupe) forgetBelow(partition int32, offset int64) {
	h := d.change(partition)
	for key, entry := range h.lowest {
		if entry.offset < offset {
			d.note(h, key)
			delete(h.lowest, key)
		}
	}
}

// add notes an announcement and gives the first of its kind.
func (d *dedupe) add(h *history, object *topics.Object, record *kgo.Record) first {
	key := announcement{generation: int32(object.Generation)} //nolint:gosec // small by its nature
	_, _ = hex.Decode(key.object[:], []byte(object.ID))       // decoded records have ids of this form
	at := record.Timestamp.UnixMilli()

	h.newest = max(h.newest, at)
	for h.size() > 0 && h.order[h.gone].at < h.newest-d.horizon.Milliseconds() {
		d.forgetOldest(h)
	}
	d.note(h, key)
	entry, known := h.lowest[key]
	if !known {
		entry.offset = record.Offset
	}
	entry.at = at
	h.lowest[key] = entry
	h.order = append(h.order, remembered{key, at})
	d.count++
	for d.count > d.most && h.size() > 1 {
		d.metrics.dedupeEvicted.Inc()
		if !d.full {
			d.full = true
			d.slog.Warn("more announcements within the horizon than are remembered; the oldest are forgotten "+
				"(fetcher.dedupeObjects)", "remembered", d.most)
		}
		d.forgetOldest(h)
	}
	return entry
}

func (d *dedupe) forgetOldest(h *history) {
	oldest := h.order[h.gone]
	if h.lowest[oldest.key].at == oldest.at { // not announced again since
		d.note(h, oldest.key)
		delete(h.lowest, oldest.key)
	}
	h.gone++
	d.count--
	if _, marked := d.marks[h]; !marked {
		h.compact()
	}
}

// size is how many announcements are remembered.
func (h *history) size() int { return len(h.order) - h.gone }

// compact frees the room of those that have left.
func (h *history) compact() {
	if h.gone > len(h.order)/2 && h.gone > 1024 {
		h.order = append([]remembered(nil), h.order[h.gone:]...)
		h.gone = 0
	}
}

// note keeps what a transaction is about to change. Reading back is no
// transaction.
func (d *dedupe) note(h *history, key announcement) {
	if _, marked := d.marks[h]; !marked {
		return
	}
	before, had := h.lowest[key]
	d.changes = append(d.changes, change{h, key, before, had})
}
