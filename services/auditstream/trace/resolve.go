package trace

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/topics"
)

// ofURI finds the object that is there now, else what was announced of it. A
// number at the end is a line, unless there is an object whose key ends so.
func (t *Tracer) ofURI(ctx context.Context, wanted target) ([]target, error) {
	candidates := []target{wanted}
	if bare, line, has := withLine(wanted.key); has {
		candidates = append(candidates, target{bucket: wanted.bucket, key: bare, line: line, event: -1})
	}
	if t.opts.Store != nil {
		for _, candidate := range candidates {
			listed, err := t.stat(ctx, candidate.bucket, candidate.key, "")
			switch {
			case err == nil:
				candidate.listed = &listed
				candidate.objectID = identity.ObjectID(t.opts.Store.Alias(), candidate.bucket, candidate.key, listed.ETag)
				return []target{candidate}, nil
			case isDone(ctx, err):
				return nil, err
			case !errors.Is(err, objectstore.ErrMissing):
				t.note("the object store was not helpful: %s", err)
			}
		}
	}
	t.note("s3://%s/%s is not in the object store now, or can't be seen; looked for announcements of it", wanted.bucket, wanted.key)
	var found []target
	add := func(id, bucket, key string) {
		for _, candidate := range candidates {
			if candidate.bucket != bucket || candidate.key != key {
				continue
			}
			candidate.objectID = id
			if !slices.ContainsFunc(found, func(other target) bool { return other.id() == candidate.id() }) {
				found = append(found, candidate)
			}
		}
	}
	if _, err := t.search(ctx, t.names.Objects, nil, span{since: t.opts.Since}, func(record *kgo.Record) error {
		if object, err := topics.DecodeObject(record.Value); err == nil && !topics.IsNoted(record) {
			add(object.ID, object.Bucket, object.Key)
		}
		return nil
	}); err != nil || len(found) > 0 {
		return found, err
	}
	_, err := t.search(ctx, t.names.Ledger, nil, span{since: t.opts.Since}, func(record *kgo.Record) error {
		if entry, err := topics.DecodeLedgerEntry(record.Value); err == nil && entry.Kind == topics.LedgerObject {
			add(entry.Object, entry.Bucket, entry.Key)
		}
		return nil
	})
	return found, err
}

// storePatience is how long the store is waited for; all else can be told without it.
const storePatience = 20 * time.Second

func (t *Tracer) stat(ctx context.Context, bucket, key, version string) (objectstore.Listed, error) {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	return t.opts.Store.Stat(ctx, bucket, key, version)
}

// ofAuditID finds the rows of a request, one for each of its stages; what the
// table doesn't know is looked for in the topics.
func (t *Tracer) ofAuditID(ctx context.Context, auditID string) ([]target, error) {
	ids, err := t.rowIDs(ctx, auditID)
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		if ids, err = t.scanAuditID(ctx, auditID); err != nil {
			return nil, err
		}
	}
	targets := make([]target, 0, len(ids))
	for _, id := range ids {
		object, line, number, err := identity.ParseRowID(id)
		if err != nil {
			t.note("a row has the id %q, which is none", id)
			continue
		}
		targets = append(targets, target{objectID: object, line: line, event: number})
	}
	return targets, nil
}

// scanAuditID reads normalized and, when it isn't there, raw and deadletter. In
// raw lines it is looked for as it is written.
func (t *Tracer) scanAuditID(ctx context.Context, auditID string) ([]string, error) {
	since := t.opts.Since
	if since.IsZero() {
		since = time.Now().Add(-scanSince)
	}
	t.note("the table has no row of it; the topics were searched since %s", since.UTC().Format(time.RFC3339))
	token := []byte(auditID)
	found := make(map[string]bool)
	add := func(id string) error {
		found[id] = true
		if len(found) > mostTraces {
			return stop
		}
		return nil
	}
	var row event.Row
	if _, err := t.search(ctx, t.names.Normalized, nil, span{since: since}, func(record *kgo.Record) error {
		if bytes.Contains(record.Value, token) && topics.DecodeNormalized(record.Value, &row) == nil && row.AuditID == auditID {
			return add(row.ID)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if len(found) == 0 {
		if _, err := t.search(ctx, t.names.Raw, nil, span{since: since}, func(record *kgo.Record) error {
			if !bytes.Contains(record.Value, token) {
				return nil
			}
			line, err := topics.DecodeRawLine(record)
			if err != nil {
				return nil //nolint:nilerr // not a line
			}
			return add(identity.RowID(line.Object, line.Line, 0))
		}); err != nil {
			return nil, err
		}
	}
	if len(found) == 0 {
		if _, err := t.search(ctx, t.names.DeadLetter, nil, span{since: since}, func(record *kgo.Record) error {
			if !bytes.Contains(record.Value, token) {
				return nil
			}
			letter, err := topics.DecodeDeadLetter(record)
			if err != nil || letter.Object == "" || letter.Line < 1 || letter.Event < 0 {
				return nil //nolint:nilerr // not of a line
			}
			return add(identity.RowID(letter.Object, letter.Line, letter.Event))
		}); err != nil {
			return nil, err
		}
	}
	ids := make([]string, 0, len(found))
	for id := range found {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}
