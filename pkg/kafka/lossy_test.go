package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
)

// lossyDialer loses replies: the broker does the work, and the connection
// breaks before the client has the answer.
type lossyDialer struct {
	key    int16
	budget atomic.Int64
	lost   atomic.Int64
}

func newLossyDialer(key int16) *lossyDialer { return &lossyDialer{key: key} }

func (d *lossyDialer) lose(times int64) { d.budget.Store(times) }

func (d *lossyDialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return &lossyConn{Conn: conn, dialer: d}, nil
}

type lossyConn struct {
	net.Conn
	dialer *lossyDialer
	armed  atomic.Bool
}

var errReplyLost = errors.New("the reply was lost")

// Write sees whole requests: franz-go writes each with one call.
func (c *lossyConn) Write(b []byte) (int, error) {
	if len(b) >= 6 && int16(binary.BigEndian.Uint16(b[4:])) == c.dialer.key && c.dialer.budget.Add(-1) >= 0 {
		c.armed.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *lossyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && c.armed.CompareAndSwap(true, false) {
		c.dialer.lost.Add(1)
		_ = c.Conn.Close()
		return 0, errReplyLost
	}
	return n, err
}
