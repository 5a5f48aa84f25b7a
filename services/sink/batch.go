package sink

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	gohash "hash"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/topics"
)

// batch is the records of [from, to) of one partition.
//
// The same row can be in it twice: an object that was announced again gives its
// lines again. Then the last record goes in, as it would win in the table.
// Which one that is depends on the range alone, so every owner comes to the
// same rows.
type batch struct {
	from, to int64         // to is one past the last record, or past ends of transactions behind it
	records  []*kgo.Record // in the order of offsets
	rows     []*kgo.Record // one for each row id
	ids      hash          // of all records' row ids, in order
	bytes    int64
	closed   string // why: rows, bytes, age, recovery
}

// recordOverhead is what a record costs in memory beside its value.
const recordOverhead = 256

// costOf counts what is kept: the end of a transaction is let go at once.
func costOf(record *kgo.Record) int64 {
	if record.Attrs.IsControl() {
		return 0
	}
	return int64(len(record.Value)) + recordOverhead
}

// gatherer collects the records of the next batch.
type gatherer struct {
	batch
	last   map[string]int // row id → place of its last record
	digest gohash.Hash
	since  time.Time // when its first record arrived
}

func newGatherer() *gatherer {
	return &gatherer{last: make(map[string]int), digest: sha256.New()}
}

func (g *gatherer) begin(from int64) {
	g.batch = batch{from: from, to: from}
	clear(g.last)
	g.digest.Reset()
}

// add takes the record into the batch. Of the end of a transaction, which is no
// row, only the offset counts: the batch reaches past it.
func (g *gatherer) add(record *kgo.Record, arrived time.Time) error {
	if record.Attrs.IsControl() {
		g.to = record.Offset + 1
		return nil
	}
	id, err := rowID(record.Value)
	if err != nil {
		return fmt.Errorf("record %s/%d at offset %d: %w", record.Topic, record.Partition, record.Offset, err)
	}
	if len(g.records) == 0 {
		g.since = arrived
	}
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(id))) //nolint:gosec // a record is far smaller
	_, _ = g.digest.Write(length[:])
	_, _ = g.digest.Write(unsafe.Slice(unsafe.StringData(id), len(id)))
	g.last[id] = len(g.records)
	g.records = append(g.records, record)
	g.bytes += costOf(record)
	g.to = record.Offset + 1
	return nil
}

// end closes the batch. The gatherer must begin anew before it is used again.
func (g *gatherer) end(why string) *batch {
	b := g.batch
	b.closed = why
	copy(b.ids[:], g.digest.Sum(nil))
	b.rows = b.records
	if len(g.last) < len(b.records) {
		b.rows = make([]*kgo.Record, 0, len(g.last))
		for i, record := range b.records {
			id, _ := rowID(record.Value) // was read before
			if g.last[id] == i {
				b.rows = append(b.rows, record)
			}
		}
	}
	return &b
}

// fieldID is the number of the row id in normalized.proto.
const fieldID = 6

// rowID finds the id in a record of `normalized` without decoding the rest: it
// is among the first fields. The string points into value.
func rowID(value []byte) (string, error) {
	for rest := value; len(rest) > 0; {
		field, wireType, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return "", fmt.Errorf("%w: %w", topics.ErrMalformed, protowire.ParseError(n))
		}
		rest = rest[n:]
		if field == fieldID && wireType == protowire.BytesType {
			id, n := protowire.ConsumeBytes(rest)
			if n < 0 || len(id) == 0 {
				return "", fmt.Errorf("%w: bad row id", topics.ErrMalformed)
			}
			return unsafe.String(unsafe.SliceData(id), len(id)), nil
		}
		if n = protowire.ConsumeFieldValue(field, wireType, rest); n < 0 {
			return "", fmt.Errorf("%w: %w", topics.ErrMalformed, protowire.ParseError(n))
		}
		rest = rest[n:]
	}
	return "", fmt.Errorf("%w: event without id", topics.ErrMalformed)
}

// recordRows hands the rows of records to an insert.
type recordRows struct {
	records []*kgo.Record
	next    int
}

func (r *recordRows) Next(row *event.Row) (bool, error) {
	if r.next == len(r.records) {
		return false, nil
	}
	record := r.records[r.next]
	r.next++
	if err := topics.DecodeNormalized(record.Value, row); err != nil {
		return false, fmt.Errorf("record %s/%d at offset %d: %w", record.Topic, record.Partition, record.Offset, err)
	}
	return true, nil
}

// keysOf are what finds the records' rows in the table, and when each expires
// there (zero: never).
func keysOf(records []*kgo.Record) ([]clickhouse.RowKey, []time.Time, error) {
	keys := make([]clickhouse.RowKey, 0, len(records))
	expiries := make([]time.Time, 0, len(records))
	var row event.Row
	rows := recordRows{records: records}
	for {
		more, err := rows.Next(&row)
		if err != nil || !more {
			return keys, expiries, err
		}
		keys = append(keys, clickhouse.RowKey{
			WorkspaceID: row.WorkspaceID, SourceID: row.SourceID, ReceivedAt: row.ReceivedAt, ID: row.ID,
		})
		var expiry time.Time
		if row.SourceTTL > 0 {
			expiry = time.Unix(int64(row.ReceivedAt), 0).AddDate(0, 0, int(row.SourceTTL))
		}
		expiries = append(expiries, expiry)
	}
}
