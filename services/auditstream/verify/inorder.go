package verify

import (
	"context"
	"sync"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// inOrder reads the same of every shard, each in order, and hands all of it out
// in order.
func inOrder[T any](
	ctx context.Context, shards []driver.Conn, before func(a, b T) bool,
	read func(ctx context.Context, shard driver.Conn, yield func(T) error) error, yield func(T) error,
) error {
	if len(shards) == 1 {
		return read(ctx, shards[0], yield)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel(context.Canceled)
	heads := make([]*T, len(shards))
	coming := make([]chan T, len(shards))
	for i, shard := range shards {
		coming[i] = make(chan T, 64)
		reading.Go(func() {
			defer close(coming[i])
			if err := read(ctx, shard, func(one T) error {
				select {
				case coming[i] <- one:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}); err != nil {
				cancel(err)
			}
		})
	}
	advance := func(i int) {
		heads[i] = nil
		if one, more := <-coming[i]; more {
			heads[i] = &one
		}
	}
	for i := range heads {
		advance(i)
	}
	for {
		first := -1
		for i, head := range heads {
			if head != nil && (first < 0 || before(*head, *heads[first])) {
				first = i
			}
		}
		// A shard that failed has ended early: what others have is not all.
		if err := context.Cause(ctx); err != nil || first < 0 {
			return err
		}
		if err := yield(*heads[first]); err != nil {
			return err
		}
		advance(first)
	}
}
