package deadletter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/topics"
)

// Reader reads the topics. It is in no group and leaves no trace.
type Reader struct {
	// Client gives options for one more client.
	Client func() ([]kgo.Opt, error)
	Topics topics.Names
}

// ErrNoSuchLetter is told of a position at which there is no dead letter.
var ErrNoSuchLetter = errors.New("no such dead letter")

// history is what the topic tells beside the letters themselves.
type history struct {
	retried     map[Position]time.Time
	generations map[string]int // of objects: the highest that a letter has
}

// history reads the whole topic.
func (r *Reader) history(ctx context.Context, bounds kafka.Ranges) (history, error) {
	h := history{retried: make(map[Position]time.Time), generations: make(map[string]int)}
	err := r.scan(ctx, bounds, func(record *kgo.Record) error {
		if !topics.IsRetried(record) {
			if object, found := newLetter(record).object(); found {
				h.generations[object.ID] = max(h.generations[object.ID], object.Generation)
			}
			return nil
		}
		retried, err := topics.DecodeRetried(record)
		if err != nil { // to go on could put something back twice
			return err
		}
		h.retried[Position{retried.Partition, retried.Offset}] = record.Timestamp
		return nil
	})
	return h, err
}

// Each hands the dead letters that filter chooses to yield, in order within
// each partition. A letter belongs to yield.
func (r *Reader) Each(ctx context.Context, filter Filter, yield func(*Letter) error) error {
	bounds, err := r.bounds(ctx, r.Topics.DeadLetter, time.Time{})
	if err != nil {
		return err
	}
	history, err := r.history(ctx, bounds)
	if err != nil {
		return err
	}
	return r.each(ctx, filter, history, yield)
}

func (r *Reader) each(ctx context.Context, filter Filter, history history, yield func(*Letter) error) error {
	bounds, err := r.bounds(ctx, r.Topics.DeadLetter, filter.Since)
	if err != nil {
		return err
	}
	wanted := make(map[Position]bool)
	if len(filter.Positions) > 0 {
		named := make(kafka.Ranges)
		for _, position := range filter.Positions {
			wanted[position] = true
			part, is := named[r.Topics.DeadLetter][position.Partition]
			if !is {
				part = kafka.Range{From: position.Offset, To: position.Offset + 1}
			}
			part.From, part.To = min(part.From, position.Offset), max(part.To, position.Offset+1)
			all := bounds[r.Topics.DeadLetter][position.Partition]
			part.To = min(part.To, all.To)
			named.Set(r.Topics.DeadLetter, position.Partition, part)
		}
		bounds = named
	}
	found := 0
	err = r.scan(ctx, bounds, func(record *kgo.Record) error {
		position := Position{record.Partition, record.Offset}
		if topics.IsRetried(record) || len(filter.Positions) > 0 && !wanted[position] {
			return nil
		}
		letter := newLetter(record)
		letter.Retried = history.retried[position]
		delete(wanted, position)
		if !filter.selects(letter) {
			return nil
		}
		if err := yield(letter); err != nil {
			return err
		}
		if found++; found == filter.Limit {
			return kafka.ErrStopScan
		}
		return nil
	})
	if err == nil && len(wanted) > 0 && (filter.Limit == 0 || found < filter.Limit) {
		var missing []string
		for position := range wanted {
			missing = append(missing, position.String())
		}
		slices.Sort(missing)
		err = fmt.Errorf("%w: %s", ErrNoSuchLetter, strings.Join(missing, ", "))
	}
	return err
}

// Announced is what the topic `objects` says of one object.
type Announced struct {
	Latest     topics.Object // of the highest generation, the first announcement
	Generation int
}

// Announced looks objects up by id. There is nothing of one that the topic has
// lost.
func (r *Reader) Announced(ctx context.Context, ids map[string]bool) (map[string]Announced, error) {
	found := make(map[string]Announced)
	if len(ids) == 0 {
		return found, nil
	}
	return found, r.objects(ctx, func(record *kgo.Record) bool { return ids[string(record.Key)] }, func(object *topics.Object) {
		before, known := found[object.ID]
		if !known || object.Generation > before.Generation {
			found[object.ID] = Announced{*object, object.Generation}
		}
	})
}

// ObjectIDs are those of the objects that were announced with a URI, or parts of
// one: each content that it had is an object of its own.
func (r *Reader) ObjectIDs(ctx context.Context, uri string) (map[string]bool, error) {
	bucket, key, _ := topics.ParseURI(uri)
	if key == "" {
		return nil, fmt.Errorf("%q is neither an object's id nor a URI like s3://bucket/key", uri)
	}
	ids := make(map[string]bool)
	take := func(object *topics.Object) {
		if object.Bucket == bucket && object.Key == key {
			ids[object.ID] = true
		}
	}
	if err := r.objects(ctx, func(record *kgo.Record) bool { return bytes.Contains(record.Value, []byte(bucket)) }, take); err != nil {
		return nil, err
	}
	// Announcements may be gone while the letters of their objects are there.
	err := r.Each(ctx, Filter{Retried: true}, func(letter *Letter) error {
		if object, found := letter.object(); found {
			take(&object)
		}
		return nil
	})
	return ids, err
}

func (r *Reader) objects(ctx context.Context, wanted func(*kgo.Record) bool, take func(*topics.Object)) error {
	bounds, err := r.bounds(ctx, r.Topics.Objects, time.Time{})
	if err != nil {
		return err
	}
	return r.scan(ctx, bounds, func(record *kgo.Record) error {
		if topics.IsNoted(record) || !wanted(record) {
			return nil
		}
		if object, err := topics.DecodeObject(record.Value); err == nil {
			take(&object)
		}
		return nil
	})
}

// Originals reads the records that letters came from; those that the topics
// have lost are missing.
func (r *Reader) originals(ctx context.Context, topic string, wanted map[Position]bool) (map[Position]*kgo.Record, error) {
	found := make(map[Position]*kgo.Record)
	if len(wanted) == 0 {
		return found, nil
	}
	bounds, err := r.bounds(ctx, topic, time.Time{})
	if err != nil {
		return nil, err
	}
	offsets := make(map[int32][]int64)
	for position := range wanted {
		all := bounds[topic][position.Partition]
		if position.Offset >= all.From && position.Offset < all.To {
			offsets[position.Partition] = append(offsets[position.Partition], position.Offset)
		}
	}
	for _, list := range offsets {
		slices.Sort(list)
	}
	// Offsets far from each other are read one by one, near ones in one go.
	for len(offsets) > 0 {
		round := make(kafka.Ranges)
		for partition, list := range offsets {
			part := kafka.Range{From: list[0], To: list[0] + 1}
			for list = list[1:]; len(list) > 0 && list[0]-part.To < nearby; list = list[1:] {
				part.To = list[0] + 1
			}
			round.Set(topic, partition, part)
			if offsets[partition] = list; len(list) == 0 {
				delete(offsets, partition)
			}
		}
		if err := r.scan(ctx, round, func(record *kgo.Record) error {
			if position := (Position{record.Partition, record.Offset}); wanted[position] {
				found[position] = record
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// nearby is how many offsets are read over rather than skipped.
const nearby = 500

func (r *Reader) scan(ctx context.Context, ranges kafka.Ranges, yield func(*kgo.Record) error) error {
	options, err := r.Client()
	if err != nil {
		return err
	}
	return kafka.Scan(ctx, options, ranges, yield)
}

func (r *Reader) bounds(ctx context.Context, topic string, since time.Time) (kafka.Ranges, error) {
	var bounds kafka.Ranges
	err := r.admin(func(admin *kadm.Client) (err error) {
		bounds, err = kafka.Bounds(ctx, admin, topic, since, time.Time{})
		return err
	})
	return bounds, err
}

func (r *Reader) admin(use func(*kadm.Client) error) error {
	options, err := r.Client()
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	defer client.Close()
	return use(kadm.NewClient(client))
}
