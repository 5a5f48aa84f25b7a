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

// first is the first announcement of something: the one that is followed.
type first struct {
	offset int64
	at     int64 // ms, the record's timestamp
}

// history is what was announced in one partition: of each announcement the
// lowest offset.
//
// It is a copy of the log, so a transaction that aborts changes nothing in it:
// when its records come again each finds its own offset, or the lower one of
// the announcement before it, just as the first time.
type history struct {
	lowest map[announcement]first
	order  []announcement // as added; the oldest leave first
	gone   int            // how many of order have left
	newest int64          // ms, the latest timestamp seen
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
	counts  func(*topics.Object) bool // whether an announcement is one of ours
	horizon time.Duration
	most    int // announcements remembered, over all partitions
	metrics *Metrics
	slog    *slog.Logger

	partitions map[int32]*history
	count      int
	full       bool // said so already
}

func newDedupe(log logReader, counts func(*topics.Object) bool, horizon time.Duration, most int, m *Metrics, l *slog.Logger) *dedupe {
	return &dedupe{log: log, counts: counts, horizon: horizon, most: most, metrics: m, slog: l, partitions: make(map[int32]*history)}
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
		object, err := topics.DecodeObject(record.Value)
		if h := loaded[record.Partition]; err == nil && h != nil && object.Cause.Announces() && d.counts(&object) {
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
		n += len(h.lowest)
	}
	return n
}

// drop forgets a partition that is no longer ours.
func (d *dedupe) drop(partition int32) {
	if h := d.partitions[partition]; h != nil {
		d.count -= len(h.lowest)
		delete(d.partitions, partition)
		d.metrics.dedupeEntries.Set(float64(d.count))
	}
}

// isFirst tells whether the record is the first announcement of the object
// within the horizon. Asking again gives the same answer.
func (d *dedupe) isFirst(object *topics.Object, record *kgo.Record) bool {
	h := d.partitions[record.Partition]
	if h == nil {
		h = &history{lowest: make(map[announcement]first)}
		d.partitions[record.Partition] = h
	}
	before := d.add(h, object, record)
	d.metrics.dedupeEntries.Set(float64(d.count))
	return before.offset == record.Offset
}

// add notes an announcement and gives the first of its kind.
func (d *dedupe) add(h *history, object *topics.Object, record *kgo.Record) first {
	key := announcement{generation: int32(object.Generation)} //nolint:gosec // small by its nature
	_, _ = hex.Decode(key.object[:], []byte(object.ID))       // decoded records have ids of this form
	at := record.Timestamp.UnixMilli()

	h.newest = max(h.newest, at)
	for h.gone < len(h.order) {
		oldest := h.order[h.gone]
		entry, known := h.lowest[oldest]
		if known && entry.at >= h.newest-d.horizon.Milliseconds() {
			break
		}
		d.forgetOldest(h)
	}
	if entry, known := h.lowest[key]; known {
		if record.Offset < entry.offset {
			entry.offset = record.Offset
			h.lowest[key] = entry
		}
		return entry
	}
	entry := first{offset: record.Offset, at: at}
	h.lowest[key] = entry
	h.order = append(h.order, key)
	d.count++
	for d.count > d.most && len(h.lowest) > 1 {
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
	if _, known := h.lowest[oldest]; known {
		delete(h.lowest, oldest)
		d.count--
	}
	if h.gone++; h.gone > len(h.order)/2 && h.gone > 1024 {
		h.order = append([]announcement(nil), h.order[h.gone:]...)
		h.gone = 0
	}
}
