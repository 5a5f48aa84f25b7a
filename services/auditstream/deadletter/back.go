package deadletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/services/fetcher/intake"
	"github.com/auditstream/auditstream/topics"
)

// back makes the records that letters go back as.
type back struct {
	opts    *Options
	preview preview
	store   Store // once it was asked for

	announced   map[string]Announced
	generations map[string]int // of objects, the highest so far; grows with the work
	refetched   map[string]bool
	originals   map[string]map[Position]*kgo.Record // by topic, of the letters at hand
}

func newBack(opts *Options) *back {
	return &back{
		opts: opts, preview: preview{audit.NewNormalizer(nil), opts.Audit},
		generations: make(map[string]int), refetched: make(map[string]bool),
	}
}

// Messages of queues come from no topic.
func fromQueue(letter *topics.DeadLetterRecord) bool {
	return letter.Topic == "" && letter.Stage == intake.Stage
}

// topicOf is where a letter goes back to.
func (b *back) topicOf(letter *Letter) string {
	if fromQueue(&letter.Letter) {
		return b.opts.Topics.Objects
	}
	return letter.Letter.Topic
}

// prepare reads the originals of those letters that need them.
func (b *back) prepare(ctx context.Context, letters []*Letter) error {
	wanted := map[string]map[Position]bool{b.opts.Topics.Raw: {}, b.opts.Topics.Normalized: {}}
	for _, letter := range letters {
		d := &letter.Letter
		if positions := wanted[d.Topic]; positions != nil && needsOriginal(d, b.opts.Topics) {
			positions[Position{d.Partition, d.Offset}] = true
		}
	}
	b.originals = make(map[string]map[Position]*kgo.Record)
	for topic, positions := range wanted {
		var err error
		if b.originals[topic], err = b.opts.originals(ctx, topic, positions); err != nil {
			return err
		}
	}
	return nil
}

// records gives what one letter goes back as, or why it can't.
func (b *back) records(ctx context.Context, letter *Letter) (records []*kgo.Record, note string, err error) {
	d := &letter.Letter
	original := b.originals[d.Topic][Position{d.Partition, d.Offset}]
	switch {
	case letter.Broken != nil:
		return nil, "", fmt.Errorf("it is no dead letter of auditstream: %w", letter.Broken)
	case fromQueue(d):
		return b.message(ctx, d)
	case d.Topic == b.opts.Topics.Raw && d.Reason == topics.ReasonMalformedRecord,
		d.Topic == b.opts.Topics.Normalized:
		record, err := again(original, d.Bytes, d.Topic)
		return []*kgo.Record{record}, "as it was", err
	case d.Topic == b.opts.Topics.Raw:
		raw, note, err := b.preview.line(d, original, b.opts.Force)
		if err != nil {
			return nil, "", err
		}
		record := raw.Record(d.Topic)
		if _, err := topics.DecodeRawLine(record); err != nil {
			return nil, "", fmt.Errorf("the dead letter does not say enough of its line: %w", err)
		}
		return []*kgo.Record{record}, note, nil
	case d.Topic == b.opts.Topics.Objects && d.Reason == topics.ReasonLineTooLong:
		return b.wholeObject(d)
	case d.Topic == b.opts.Topics.Objects:
		object, err := topics.DecodeObject(d.Bytes)
		if err != nil {
			return nil, "", fmt.Errorf("what it holds is no record of objects: %w", err)
		}
		return b.object(object)
	}
	return nil, "", fmt.Errorf("it came from topic %q, which is none of this configuration's", d.Topic)
}

// object goes on after the last line that it had given.
func (b *back) object(object topics.Object) ([]*kgo.Record, string, error) {
	if !b.configured(object.Source) && !b.opts.Force {
		return nil, "", fmt.Errorf("its source %q is not in the configuration, so it would be set aside again (--force puts it back all the same)", object.Source)
	}
	highest := max(object.Generation, b.generations[object.ID], b.announced[object.ID].Generation)
	object.Generation = highest + 1
	b.generations[object.ID] = object.Generation
	object.Cause, object.Attempt, object.AnnouncedAt = topics.CauseRetried, 0, time.Now().UTC()
	record, err := object.Record(b.opts.Topics.Objects)
	if err != nil {
		return nil, "", err
	}
	return []*kgo.Record{record}, fmt.Sprintf("generation %d, from line %d", object.Generation, object.FromLine), nil
}

// wholeObject fetches the object of a line that was too long from its start:
// where in it the line begins is not known. Its other rows collapse with
// themselves.
func (b *back) wholeObject(d *topics.DeadLetterRecord) ([]*kgo.Record, string, error) {
	if d.Size > b.opts.LineLimit && !b.opts.Force {
		return nil, "", fmt.Errorf("the line has %d bytes, topics.lineLimit is %d: raise it, run topics apply, restart fetcher and enricher, then retry",
			d.Size, b.opts.LineLimit)
	}
	announced, known := b.announced[d.Object]
	if !known {
		return nil, "", errors.New("its object is no longer in topic objects: find it in the bucket and announce it with backfill, after topics.lineLimit is raised")
	}
	if b.refetched[d.Object] {
		return nil, "its object is fetched again for another line", nil
	}
	object := announced.Latest
	object.FromLine, object.FromByte, object.Inside = 1, 0, topics.InsideNothing
	records, note, err := b.object(object)
	b.refetched[d.Object] = err == nil
	return records, note, err
}

// message is read as if its queue gave it now.
func (b *back) message(ctx context.Context, d *topics.DeadLetterRecord) ([]*kgo.Record, string, error) {
	if b.store == nil {
		var err error
		if b.store, err = b.opts.Store(ctx); err != nil {
			return nil, "", err
		}
	}
	objects, err := intake.Told(ctx, b.opts.Sources, b.store.Alias(), b.store, d.Bytes)
	if err != nil {
		return nil, "", fmt.Errorf("it would be set aside again: %w", err)
	}
	var records []*kgo.Record
	for i := range objects {
		record, err := objects[i].Record(b.opts.Topics.Objects)
		if err != nil {
			return nil, "", err
		}
		records = append(records, record)
	}
	if len(records) == 0 && !b.opts.Force {
		return nil, "", errors.New("it tells of no object that a configured source with a queue selects")
	}
	return records, fmt.Sprintf("announces %d objects", len(records)), nil
}

func (b *back) configured(source string) bool {
	for i := range b.opts.Sources {
		if b.opts.Sources[i].ID == source {
			return true
		}
	}
	return false
}
