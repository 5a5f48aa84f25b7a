package sink

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	gohash "hash"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

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
	records  []*kgo.Record // one for each row, in the order of offsets
	rows     []*kgo.Record // one for each row id
	ids      hash          // of all records' row ids, in order
	bytes    int64         // what the records cost as they came
	// malformed are set aside before the batch is passed; none where that is not
	// wanted, as the first one is an error then.
	malformed []malformed
	closed    string // why: rows, bytes, age, end, recovery
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
	table  Table
	expand Expand         // nil: each record is its row
	aside  bool           // collect what is malformed
	last   map[string]int // row id → place of its last record
	digest gohash.Hash
	since  time.Time // when its first record arrived
}

func newGatherer(t Table, expand Expand, aside bool) *gatherer {
	return &gatherer{table: t, expand: expand, aside: aside, last: make(map[string]int), digest: sha256.New()}
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
	if len(g.records) == 0 {
		g.since = arrived
	}
	if g.expand == nil {
		if err := g.passed(record, g.row(record)); err != nil {
			return err
		}
	} else {
		rows, err := g.expand(record)
		if err != nil {
			err = fmt.Errorf("record %s/%d at offset %d: %w", record.Topic, record.Partition, record.Offset, err)
		}
		if err := g.passed(record, err); err != nil {
			return err
		}
		for _, row := range rows {
			if err := g.passed(row, g.row(row)); err != nil {
				return err
			}
		}
	}
	g.bytes += costOf(record)
	g.to = record.Offset + 1
	return nil
}

// passed collects a record that is malformed, where that is wanted, and gives
// every other error back.
func (g *gatherer) passed(record *kgo.Record, err error) error {
	if g.aside && errors.Is(err, topics.ErrMalformed) {
		g.malformed = append(g.malformed, malformed{record, err})
		return nil
	}
	return err
}

func (g *gatherer) row(record *kgo.Record) error {
	id, err := g.table.RowID(record.Value)
	if err != nil {
		return fmt.Errorf("record %s/%d at offset %d: %w", record.Topic, record.Partition, record.Offset, err)
	}
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(id))) //nolint:gosec // a record is far smaller
	_, _ = g.digest.Write(length[:])
	_, _ = g.digest.Write(unsafe.Slice(unsafe.StringData(id), len(id)))
	g.last[id] = len(g.records)
	g.records = append(g.records, record)
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
			id, _ := g.table.RowID(record.Value) // was read before
			if g.last[id] == i {
				b.rows = append(b.rows, record)
			}
		}
	}
	return &b
}
