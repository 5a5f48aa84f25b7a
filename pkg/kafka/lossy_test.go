package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
)

// lossyDialer loses replies: the broker does the work, and the connection
// breaks before the client has the answer.
type lossyDialer struct {
	key    int16
	patch  func(frame []byte) // instead of losing the reply, change it
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
	dialer  *lossyDialer
	armed   atomic.Bool
	patched []byte // what is left of a changed reply; only the reader's
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
	if len(c.patched) > 0 {
		n := copy(b, c.patched)
		c.patched = c.patched[n:]
		return n, nil
	}
	if c.dialer.patch != nil {
		return c.readPatched(b)
	}
	n, err := c.Conn.Read(b)
	if err == nil && c.armed.CompareAndSwap(true, false) {
		c.dialer.lost.Add(1)
		_ = c.Conn.Close()
		return 0, errReplyLost
	}
	return n, err
}

// readPatched reads a whole frame, so that nothing of it is out before it is
// known to be the answer. Requests of one connection are answered in order, and
// the client sends the next of this kind only after the answer.
func (c *lossyConn) readPatched(b []byte) (int, error) {
	var length [4]byte
	if _, err := io.ReadFull(c.Conn, length[:]); err != nil {
		return 0, err
	}
	frame := make([]byte, 4+binary.BigEndian.Uint32(length[:]))
	copy(frame, length[:])
	if _, err := io.ReadFull(c.Conn, frame[4:]); err != nil {
		return 0, err
	}
	if c.armed.CompareAndSwap(true, false) {
		c.dialer.lost.Add(1)
		c.dialer.patch(frame)
	}
	n := copy(b, frame)
	c.patched = frame[n:]
	return n, nil
}
