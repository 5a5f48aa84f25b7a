package verify

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
)

// twoObjects are rows of two objects, and what comes after them.
type twoObjects struct {
	driver.Rows
	objects []string
	after   func() error
	err     error
}

func (r *twoObjects) Next() bool {
	if len(r.objects) == 0 {
		r.err = r.after()
		return false
	}
	return true
}

func (r *twoObjects) Scan(into ...any) error {
	*into[3].(*string) = r.objects[0]
	if len(into) == 6 { // an aggregate
		*into[4].(*uint64) = 1
	}
	r.objects = r.objects[1:]
	return nil
}

func (r *twoObjects) Err() error   { return r.err }
func (r *twoObjects) Close() error { return nil }

var errBrokenOff = errors.New("broken off")

// breaksOff is a server that breaks off when it counts rows, and is slow to end
// a reading of the ledger.
type breaksOff struct {
	driver.Conn
	reading, ended bool
}

func (c *breaksOff) Query(ctx context.Context, query string, _ ...any) (driver.Rows, error) {
	if strings.Contains(query, "GROUP BY") {
		return &twoObjects{objects: []string{"a", "b"}, after: func() error { return errBrokenOff }}, nil
	}
	c.reading = true
	return &twoObjects{objects: []string{"y", "z"}, after: func() error {
		<-ctx.Done()
		<-time.After(time.Minute)
		c.ended = true
		return ctx.Err()
	}}, nil
}

func TestNothingReadsOnAfterAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &breaksOff{}
		v := &verification{totals: make(map[[2]string]*SourceTotals), tables: tables{shards: []driver.Conn{server}, rows: "rows", ledger: "ledger"}}
		require.ErrorIs(t, v.compare(t.Context()), errBrokenOff)
		require.True(t, server.reading, "the ledger was not being read")
		require.True(t, server.ended, "the ledger is still being read")
	})
}
