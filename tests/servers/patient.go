package servers

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/pkg/embedded"
)

const (
	// restartTime is enough for an engine that has ended by itself to be back.
	restartTime  = 30 * time.Second
	restartPause = 50 * time.Millisecond
)

// patientConn is a test's connection to the shared engine. The engine's library
// now and then aborts when a client breaks off in the middle of an insert, as
// tests that crash a sink do, and is restarted; a test's own questions wait for
// that. They change nothing, so asking twice is no harm; other statements are
// made again only when they can't have reached the engine.
type patientConn struct {
	driver.Conn
	engine *embedded.ClickHouse
}

func (c patientConn) Query(ctx context.Context, query string, arguments ...any) (rows driver.Rows, err error) {
	err = c.untilBack(ctx, brokenOff, func() error {
		rows, err = c.Conn.Query(ctx, query, arguments...)
		return err
	})
	return rows, err
}

func (c patientConn) QueryRow(ctx context.Context, query string, arguments ...any) (row driver.Row) {
	_ = c.untilBack(ctx, brokenOff, func() error { // the row tells its error itself
		row = c.Conn.QueryRow(ctx, query, arguments...)
		return row.Err()
	})
	return row
}

func (c patientConn) Exec(ctx context.Context, statement string, arguments ...any) error {
	return c.untilBack(ctx, unreached, func() error { return c.Conn.Exec(ctx, statement, arguments...) })
}

// untilBack asks again while the error is one that a restart explains.
func (c patientConn) untilBack(ctx context.Context, explained func(error) bool, ask func() error) error {
	deadline := time.Now().Add(restartTime)
	for {
		err := ask()
		if err == nil || !explained(err) || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		if !delay.For(ctx, restartPause) {
			return err
		}
		if err := c.engine.WaitReady(ctx); err != nil {
			return err
		}
	}
}

func brokenOff(err error) bool {
	var network *net.OpError
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// unreached: no connection came about, or it ended before it was one.
func unreached(err error) bool {
	var network *net.OpError
	return errors.As(err, &network) && (network.Op == "dial" || strings.Contains(err.Error(), "handshake"))
}
