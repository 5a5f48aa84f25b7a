package trace

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/services/enricher"
	"github.com/auditstream/auditstream/topics"
)

// evidence is all that was found of a target. Each part narrows the search for
// the next: a known receivedAt is a lower bound of every record's time, the
// normalized record's time an upper one of the raw line's.
type evidence struct {
	target
	object     Object
	receivedAt time.Time // zero: not known
	sourceTTL  uint32    // days, of the normalized event

	listed    *objectstore.Listed
	listedErr error // why the store could not say

	table *tableRows // nil: not asked

	announced    *kgo.Record
	announcement topics.Object
	times        int // that it was announced
	last         *kgo.Record
	lastLink     topics.Object

	finished      *topics.LedgerEntry // the latest end of a run
	finishedAt    time.Time
	skip          *topics.LedgerEntry // of the line
	skipRecord    *kgo.Record         // nil when the table told of it
	skippedAt     time.Time
	letter        *topics.DeadLetterRecord // of the line
	letterRecord  *kgo.Record
	objectLetter  *topics.DeadLetterRecord
	objectRecord  *kgo.Record
	letters       int64 // of lines of the object
	normalized    *kgo.Record
	raw           *kgo.Record
	searchObjects searched
	searchRaw     searched
	searchNorm    searched
}

// gather looks everywhere, the cheapest and most telling first.
func (t *Tracer) gather(ctx context.Context, wanted target) (*evidence, error) {
	e := &evidence{target: wanted, object: Object{ID: wanted.objectID, Bucket: wanted.bucket, Key: wanted.key}, listed: wanted.listed}
	if e.listed != nil {
		e.receivedAt = e.listed.LastModified
		e.object.ETag = e.listed.ETag
		e.object.Endpoint = t.opts.Store.Alias()
	}
	var err error
	if e.table, err = t.rows(ctx, &wanted, narrow{receivedAt: e.receivedAt.Truncate(time.Second)}); err != nil {
		return nil, err
	}
	if e.table != nil && e.table.physical > 0 {
		e.object.Source = e.table.source
		if e.receivedAt.IsZero() {
			e.receivedAt = e.table.receivedAt
		}
	}
	for _, step := range []func(context.Context, *evidence) error{
		t.gatherAnnouncements, t.gatherStored, t.gatherLedger, t.gatherNormalized, t.gatherLetters, t.gatherRaw,
	} {
		if err := step(ctx, e); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// since bounds the records of the target from below.
func (t *Tracer) since(e *evidence) time.Time {
	if e.announced != nil && e.announced.Timestamp.After(e.receivedAt) {
		return e.announced.Timestamp
	}
	if e.receivedAt.IsZero() {
		return t.opts.Since
	}
	return e.receivedAt
}

func (t *Tracer) gatherAnnouncements(ctx context.Context, e *evidence) (err error) {
	e.searchObjects, err = t.search(ctx, t.names.Objects, []byte(e.objectID), span{since: t.since(e)}, func(record *kgo.Record) error {
		if string(record.Key) != e.objectID || topics.IsNoted(record) {
			return nil
		}
		object, err := topics.DecodeObject(record.Value)
		if err != nil || object.ID != e.objectID {
			return nil //nolint:nilerr // the fetcher sets it aside, where it is found
		}
		if object.Cause.Announces() {
			if e.times++; e.announced == nil {
				e.announced, e.announcement = record, object
			}
		}
		// Links are where their announcement is, so these are in order.
		if e.last == nil || e.last.Partition == record.Partition {
			e.last, e.lastLink = record, object
		}
		return nil
	})
	if e.last != nil {
		o := &e.lastLink
		e.object = Object{
			ID: o.ID, Source: o.Source, Endpoint: o.Endpoint, Bucket: o.Bucket, Key: o.Key, ETag: o.ETag, Version: o.Version,
		}
	}
	return err
}

// gatherStored asks the store for the object as it was announced.
func (t *Tracer) gatherStored(ctx context.Context, e *evidence) error {
	if t.opts.Store == nil || e.object.Key == "" || e.listed != nil {
		return nil
	}
	listed, err := t.stat(ctx, e.object.Bucket, e.object.Key, e.object.Version)
	switch {
	case isDone(ctx, err):
		return err
	case err == nil && e.object.ETag != "" && listed.ETag != e.object.ETag:
		err = objectstore.ErrChanged
	}
	if err != nil {
		e.listedErr = err
		if !errors.Is(err, objectstore.ErrMissing) && !errors.Is(err, objectstore.ErrChanged) {
			t.note("the object store was not helpful: %s", oneLine(err))
		}
		return nil
	}
	e.listed = &listed
	if e.receivedAt.IsZero() {
		e.receivedAt = listed.LastModified
	}
	return nil
}

// gatherLedger reads the entries of the object in the topic, and what the topic
// no longer has in the table.
func (t *Tracer) gatherLedger(ctx context.Context, e *evidence) error {
	if err := t.gatherLedgerTopic(ctx, e); err != nil {
		return err
	}
	if e.finished != nil {
		return nil
	}
	entries, err := t.ledgerRows(ctx, e.objectID)
	if err != nil {
		return err
	}
	for i := range entries {
		entry := &entries[i]
		e.entry(entry, nil, time.UnixMilli(entry.RecordedAt))
	}
	return nil
}

func (t *Tracer) gatherLedgerTopic(ctx context.Context, e *evidence) error {
	_, err := t.search(ctx, t.names.Ledger, []byte(e.objectID), span{since: t.since(e)}, func(record *kgo.Record) error {
		if string(record.Key) != e.objectID {
			return nil
		}
		entry, err := topics.DecodeLedgerEntry(record.Value)
		if err != nil || entry.Object != e.objectID {
			return nil //nolint:nilerr // says nothing about the object
		}
		e.entry(&entry, record, record.Timestamp)
		return nil
	})
	return err
}

// entry takes what an entry of the ledger says; record is nil when it is from
// the table.
func (e *evidence) entry(entry *topics.LedgerEntry, record *kgo.Record, at time.Time) {
	switch {
	case entry.Kind == topics.LedgerObject:
		if e.finished == nil || !at.Before(e.finishedAt) {
			e.finished, e.finishedAt = entry, at
		}
		if e.object.Key == "" {
			e.object = Object{
				ID: entry.Object, Source: entry.Source, Endpoint: entry.Endpoint,
				Bucket: entry.Bucket, Key: entry.Key, ETag: entry.ETag, Version: entry.Version,
			}
		}
		e.learn(entry.Source, time.UnixMilli(entry.ReceivedAt))
	case entry.Kind == topics.LedgerLines && entry.Outcome == topics.OutcomeSkip && e.line > 0:
		for _, lines := range entry.Ranges {
			if lines[0] <= e.line && e.line <= lines[1] {
				e.skip, e.skipRecord, e.skippedAt = entry, record, at
			}
		}
	}
}

func (t *Tracer) gatherNormalized(ctx context.Context, e *evidence) (err error) {
	if e.line == 0 {
		return nil
	}
	var row event.Row
	key := enricher.PartitionKey(identity.RowID(e.objectID, e.line, 0))
	e.searchNorm, err = t.search(ctx, t.names.Normalized, []byte(key), span{since: t.since(e)}, func(record *kgo.Record) error {
		if string(record.Key) != key || topics.DecodeNormalized(record.Value, &row) != nil || !e.matches(row.ID) {
			return nil
		}
		e.normalized, e.sourceTTL = record, row.SourceTTL
		e.learn(row.SourceID, time.Unix(int64(row.ReceivedAt), 0))
		return stop
	})
	return err
}

// learn takes what a record says of the object.
func (e *evidence) learn(source string, receivedAt time.Time) {
	if e.object.Source == "" {
		e.object.Source = source
	}
	if e.receivedAt.IsZero() && receivedAt.Unix() > 0 {
		e.receivedAt = receivedAt.UTC()
	}
}

func (t *Tracer) gatherLetters(ctx context.Context, e *evidence) error {
	_, err := t.search(ctx, t.names.DeadLetter, []byte(e.objectID), span{since: t.since(e)}, func(record *kgo.Record) error {
		letter, err := topics.DecodeDeadLetter(record)
		if err != nil || letter.Object != e.objectID {
			return nil //nolint:nilerr // says nothing about the object
		}
		// Of a whole object is what the fetcher made of a record of objects, but for
		// lines that are too long.
		if letter.Topic == t.names.Objects && letter.Reason != topics.ReasonLineTooLong {
			e.objectLetter, e.objectRecord = &letter, record
			return nil
		}
		e.letters++
		if e.line > 0 && letter.Line == e.line && (e.event < 0 || letter.Event == e.event) {
			e.letter, e.letterRecord = &letter, record
			e.learn(letter.Source, time.UnixMilli(letter.ReceivedAt))
		}
		return nil
	})
	return err
}

// gatherRaw looks for the line, which has no key and may be in any partition. A
// dead letter says where it was; what came of it bounds when.
func (t *Tracer) gatherRaw(ctx context.Context, e *evidence) (err error) {
	if e.line == 0 || !e.expectsRaw(t.names.Raw) {
		return nil
	}
	if e.letter != nil && e.letter.Topic == t.names.Raw {
		if e.raw, err = t.at(ctx, e.letter.Topic, e.letter.Partition, e.letter.Offset); e.raw == nil {
			e.searchRaw.cut = true
		}
		return err
	}
	within := span{since: t.since(e)}
	switch {
	case e.normalized != nil:
		within.until = e.normalized.Timestamp
	case e.finished != nil && e.finished.Lines >= e.line:
		within.until = e.finishedAt
	}
	e.searchRaw, err = t.search(ctx, t.names.Raw, nil, within, func(record *kgo.Record) error {
		line, err := topics.DecodeRawLine(record)
		if err != nil || line.Line != e.line || line.Object != e.objectID {
			return nil //nolint:nilerr // another one
		}
		e.raw = record
		e.learn(line.Source, time.UnixMilli(line.ReceivedAt))
		return stop
	})
	return err
}

// expectsRaw tells whether the line can be in raw: the fetcher leaves out blank
// lines and those that are too long, and has not come to it while the last
// link is before it.
func (e *evidence) expectsRaw(raw string) bool {
	switch {
	case e.skip != nil && e.skip.Stage == "fetcher":
		return false
	case e.letter != nil && e.letter.Topic != raw:
		return false
	case e.finished != nil:
		return e.line <= e.finished.Lines
	case e.objectLetter != nil:
		return e.line <= e.objectLetter.Line
	}
	return true
}
