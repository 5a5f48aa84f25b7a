package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/topics"
)

// longestAside bounds what a dead letter keeps of a record; a record of
// `normalized` may be larger than the topic `deadletter` takes, and is still in
// its own.
const longestAside = 512 << 10

// setAside writes what is malformed in the batch to the topic `deadletter` and
// returns when it is durable. It comes before the commit that passes over the
// records.
//
// What is malformed is a matter of the bytes alone, so every owner of the range
// comes to the same records. A crash after this and before the commit makes the
// next owner write the same letters again: a letter is told by the topic,
// partition and offset that it names.
func (w *worker) setAside(ctx context.Context, b *batch) error {
	if len(b.malformed) == 0 {
		return nil
	}
	if tell := w.service.options.LeaveOut; tell != nil {
		for _, bad := range b.malformed {
			tell(bad.record, bad.err)
		}
		b.malformed = nil
		return nil
	}
	letters := make([]*kgo.Record, len(b.malformed))
	for i, bad := range b.malformed {
		letter := topics.DeadLetterRecord{
			Stage: w.service.options.Name, Reason: topics.ReasonMalformedRecord, Error: bad.err.Error(),
			Topic: bad.record.Topic, Partition: bad.record.Partition, Offset: bad.record.Offset, Bytes: bad.record.Value,
		}
		if len(letter.Bytes) > longestAside {
			letter.Bytes, letter.Size = letter.Bytes[:longestAside], int64(len(letter.Bytes))
		}
		letters[i] = letter.Record(w.service.options.DeadLetter)
	}
	for try := w.tries("set aside", nil); ; {
		err := w.produce(ctx, letters)
		if err == nil {
			try.succeeded()
			break
		}
		if err := try.again(ctx, fmt.Errorf("set %d records of %s aside: %w", len(letters), w.subject(), err)); err != nil {
			return err
		}
	}
	for _, bad := range b.malformed {
		w.log.Error("a record is malformed and was set aside", "offset", bad.record.Offset, "error", bad.err)
	}
	w.service.metrics.deadLetters.WithLabelValues(string(topics.ReasonMalformedRecord)).Add(float64(len(b.malformed)))
	b.malformed = nil
	return nil
}

// passesOver tells whether a record that is no row is passed over. Otherwise it
// stops its partition.
func (s *Service) passesOver() bool { return s.options.DeadLetter != "" || s.options.LeaveOut != nil }

// produce returns when all records are durable, or with ctx: one that was sent
// and not answered can't be taken back while the brokers are away.
func (w *worker) produce(ctx context.Context, records []*kgo.Record) error {
	answers := make(chan error, len(records))
	for _, record := range records {
		w.service.client.Produce(ctx, record, func(_ *kgo.Record, err error) { answers <- err })
	}
	for range records {
		select {
		case err := <-answers:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// bring brings the batch's rows into the table.
//
// The id of a row is read when it is gathered, the rest of its record not before
// it goes in. A record that fails there has been counted in the intent, and is
// left out and set aside now; nothing was sent with it.
func (w *worker) bring(ctx context.Context, b *batch, in *intent, recovered bool) error {
	if err := w.setAside(ctx, b); err != nil {
		return err
	}
	step := w.insert
	if recovered {
		step = w.settle
	}
	err := step(ctx, b, in)
	if !errors.Is(err, topics.ErrMalformed) || !w.service.passesOver() || !w.leaveOut(b) {
		return err
	}
	if err := w.setAside(ctx, b); err != nil {
		return err
	}
	if len(b.rows) == 0 {
		return nil
	}
	return w.settle(ctx, b, in)
}

// leaveOut moves what can't be decoded from the rows to what is malformed, and
// tells whether there was any.
func (w *worker) leaveOut(b *batch) bool {
	// Of all records, since one that is left out may have stood for the same row
	// of an earlier one.
	last := make(map[string]int)
	var good []*kgo.Record
	var ids []string
	for _, record := range b.records {
		keys, _, err := w.shard.table.Keys([]*kgo.Record{record})
		if err != nil {
			b.malformed = append(b.malformed, malformed{record, err})
			continue
		}
		id := strings.Clone(keys[0].ID)
		last[id] = len(good)
		good, ids = append(good, record), append(ids, id)
	}
	b.rows = make([]*kgo.Record, 0, len(last))
	for i, record := range good {
		if last[ids[i]] == i {
			b.rows = append(b.rows, record)
		}
	}
	return len(b.malformed) > 0
}

// malformed is a record that is no row.
type malformed struct {
	record *kgo.Record
	err    error
}
