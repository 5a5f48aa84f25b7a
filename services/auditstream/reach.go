package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/auditstream/auditstream/pkg/delay"
)

// reachPause is between two tries to reach a server.
const reachPause = 500 * time.Millisecond

// untilReached tries until the server can be reached, as it may only be starting.
// Whatever else is wrong does not pass by waiting. At the end of ctx it gives the
// last error.
func (a *application) untilReached(ctx context.Context, server string, try func() error) error {
	for told := false; ; told = true {
		err := try()
		if !unreachable(err) {
			return err
		}
		if !told {
			a.complain("auditstream: %s can't be reached yet, waiting: %s\n", server, err)
		}
		if !delay.For(ctx, reachPause) {
			return fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

// unreachable tells whether no connection came about.
func unreachable(err error) bool {
	var operation *net.OpError
	return errors.As(err, &operation) && operation.Op == "dial"
}
