package replay

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/services/sink"
)

// SwapStep is a place between two durable steps of a swap.
type SwapStep string

// The places where Options.SwapHook is called.
const (
	SwapCopied       SwapStep = "copied"       // what was missing has been copied, the pipeline still writes
	SwapHeld         SwapStep = "held"         // the live table names a hold
	SwapAcknowledged SwapStep = "acknowledged" // nobody writes to it any more
	SwapProven       SwapStep = "proven"       // every id of it is in the other table
	SwapReady        SwapStep = "ready"        // the hold is still this process's
	SwapExchanged    SwapStep = "exchanged"    // the tables have each other's name
)

const (
	awaitInterval = 200 * time.Millisecond
	// liftTimeout is for lifting the hold of a swap that is given up.
	liftTimeout = 30 * time.Second
)

// errDied is a fail point that was reached in a test: nothing is cleaned up.
var errDied = errors.New("died at a fail point")

// takePlace puts the filled table in the live one's place. After each step it
// says what a crash there leaves behind; whoever runs the same again goes on.
func (r *replay) takePlace(ctx context.Context) (copied uint64, err error) {
	if !r.Swap {
		return 0, nil
	}
	// Rows that the replay has not made, as they are, while the pipeline goes on:
	// little is left to copy later. Crash: what is copied is there, and not missing
	// the next time.
	if copied, err = r.copyMissing(ctx, false); err != nil {
		return copied, err
	}
	if err := r.at(SwapCopied); err != nil {
		return copied, err
	}
	hold := r.holdID()
	defer func() {
		if err != nil && !errors.Is(err, errDied) {
			err = errors.Join(err, r.lift(ctx, hold))
		}
	}()
	// Crash: the sinks hold on, nothing is lost, and their records stay in Kafka.
	// The next run takes the hold over, under a name of its own that has to be
	// acknowledged again; --abort lifts it.
	if err := r.swap.SetHold(ctx, hold); err != nil {
		return copied, err
	}
	if err := r.at(SwapHeld); err != nil {
		return copied, err
	}
	if err := r.awaitHeld(ctx, hold); err != nil {
		return copied, err
	}
	if err := r.at(SwapAcknowledged); err != nil {
		return copied, err
	}
	// Now the live table stays as it is, so what is found to be whole is whole.
	// Crash: as above.
	late, err := r.copyMissing(ctx, true)
	copied += late
	if err != nil {
		return copied, err
	}
	if err := r.at(SwapProven); err != nil {
		return copied, err
	}
	if err := r.stillHeld(ctx, hold); err != nil {
		return copied, err
	}
	if err := r.at(SwapReady); err != nil {
		return copied, err
	}
	// One step exchanges the tables and lifts the hold, as the comment goes with
	// the old table. Crash before: as above. Crash after: the sinks go on with the
	// new table, and the next run sees by the comment on the old one that only this
	// is left to be said there.
	if err := r.swap.Exchange(ctx); err != nil {
		return copied, err
	}
	if err := r.at(SwapExchanged); err != nil {
		return copied, err
	}
	r.say("%s is the new table; the old one is %s", r.swap.Live(), r.swap.Other())
	if err := r.wasHeld(ctx, hold); err != nil {
		return copied, err
	}
	return copied, r.swap.MarkReplaced(ctx, hold)
}

// swappedBefore tells whether an earlier process got as far as the exchange,
// and does the little that is left then. It refuses a swap that stands in the
// way of another one.
func (r *replay) swappedBefore(ctx context.Context) (bool, error) {
	if !r.Swap {
		return false, nil
	}
	state, err := r.swap.State(ctx)
	if err != nil {
		return false, err
	}
	switch {
	case state.Exchanged != "" && r.own(state.Exchanged):
		r.say("the tables were exchanged already")
		return true, r.swap.MarkReplaced(ctx, state.Exchanged)
	case state.Replaced != "" && r.own(state.Replaced):
		return true, nil
	case state.Exchanged != "" || state.Replaced != "":
		return false, refuse("%s is a table that an earlier swap has replaced: drop it, or name another", r.swap.Other())
	case state.Hold != "" && !r.own(state.Hold):
		return false, refuse("%s is held for another swap (%s): let it end, or lift it with `auditstream replay --abort`", r.swap.Live(), state.Hold)
	}
	return false, nil
}

// swapID names the swap in holds; holdID this process's hold for it.
func (r *replay) swapID() string {
	id := r.plan.run
	id.phase, id.replaces = "", false
	return r.Name + "/" + id.String()
}

func (r *replay) holdID() string {
	var process [4]byte
	_, _ = rand.Read(process[:]) // never fails
	return r.swapID() + "/" + hex.EncodeToString(process[:])
}

func (r *replay) own(hold string) bool { return strings.HasPrefix(hold, r.swapID()+"/") }

func (r *replay) at(step SwapStep) error {
	if r.SwapHook == nil {
		return nil
	}
	if err := r.SwapHook(step); err != nil {
		return fmt.Errorf("%w: %s: %w", errDied, step, err)
	}
	return nil
}

func (r *replay) copyMissing(ctx context.Context, prove bool) (uint64, error) {
	last := time.Now()
	return r.swap.CopyMissing(ctx, r.swapID(), prove, func(slices, of int, copied uint64) {
		if now := time.Now(); now.Sub(last) >= progressInterval || slices == of {
			last = now
			r.say("compared %d of %d parts of %s, %s copied", slices, of, r.swap.Live(), digits.Of(copied, "row"))
		}
	})
}

// awaitHeld returns when every partition of the live sinks has acknowledged the
// hold, and so has every other replay that runs. A hold that was lifted meanwhile
// is one that nobody acknowledges any more.
func (r *replay) awaitHeld(ctx context.Context, hold string) error {
	group := r.Config.Kafka.Group + "-sink"
	told := time.Now()
	for {
		awaited, err := sink.AwaitedByHold(ctx, r.client, group, r.names.Normalized, hold)
		if err != nil {
			return err
		}
		others, err := r.otherReplays(ctx, hold)
		if err != nil {
			return err
		}
		if len(awaited) == 0 && len(others) == 0 {
			r.say("the pipeline holds on; nobody writes to %s", r.swap.Live())
			return nil
		}
		if err := r.stillHeld(ctx, hold); err != nil {
			return err
		}
		if time.Since(told) >= progressInterval {
			told = time.Now()
			if len(awaited) > 0 {
				r.say("waiting for the sinks of partitions %v of %s", awaited, r.names.Normalized)
			}
			if len(others) > 0 {
				r.say("waiting for other replays to end: groups %v", others)
			}
		}
		if !delay.For(ctx, awaitInterval) {
			return ctx.Err()
		}
	}
}

// otherReplays are the groups of replays that have a member and have not
// acknowledged the hold: those that fill other tables never do, and come to their
// end. One that begins later looks at the table first, as every sink does.
func (r *replay) otherReplays(ctx context.Context, hold string) ([]string, error) {
	listed, err := r.admin.ListGroups(ctx)
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	var names []string
	for _, name := range listed.Groups() {
		if strings.HasPrefix(name, r.Config.Kafka.Group+"-replay-") && !slices.Contains(r.groups(), name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	described, err := r.admin.DescribeGroups(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("describe groups %v: %w", names, err)
	}
	var running []string
	for _, one := range described {
		if len(one.Members) == 0 {
			continue
		}
		awaited, err := sink.RunAwaitedByHold(ctx, r.client, one.Group, hold)
		if err != nil {
			return nil, err
		}
		if awaited {
			running = append(running, one.Group)
		}
	}
	slices.Sort(running)
	return running, nil
}

// stillHeld makes sure that no other process has taken the swap over.
func (r *replay) stillHeld(ctx context.Context, hold string) error {
	state, err := r.swap.State(ctx)
	if err != nil {
		return err
	}
	if state.Hold != hold || state.Exchanged != "" || state.Replaced != "" {
		return fmt.Errorf("the hold on %s is no longer this process's: another one goes on with the swap, or it was aborted", r.swap.Live())
	}
	return nil
}

// wasHeld makes sure that the hold was there until the exchange: it has moved
// with the old table then. Who lifted it just before let rows into the old table
// that nobody has copied.
func (r *replay) wasHeld(ctx context.Context, hold string) error {
	state, err := r.swap.State(ctx)
	if err != nil || state.Exchanged == hold {
		return err
	}
	return fmt.Errorf("the hold was lifted at the moment of the exchange: rows that came in meanwhile may be in %s alone; `auditstream replay --from normalized` over the last hour brings them into %s",
		r.swap.Other(), r.swap.Live())
}

// lift gives a swap up: the pipeline goes on with the table it has.
func (r *replay) lift(ctx context.Context, hold string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), liftTimeout)
	defer cancel()
	state, err := r.swap.State(ctx)
	if err != nil || state.Hold != hold {
		return err
	}
	if err := r.swap.SetHold(ctx, ""); err != nil {
		return fmt.Errorf("the pipeline still holds on; `auditstream replay --abort` lifts it: %w", err)
	}
	r.say("the pipeline goes on with %s as it was", r.swap.Live())
	return nil
}

// Abort lifts whatever holds the live table. It returns the hold, "" when there
// was none.
func Abort(ctx context.Context, opts Options) (hold string, err error) {
	var problems []error
	for _, shard := range opts.Config.ClickHouse.PerShard() {
		connection, err := clickhouse.Connect(shard, opts.Log)
		if err != nil {
			return hold, err
		}
		swap := clickhouse.NewSwap(connection, shard, "")
		state, err := swap.State(ctx)
		if err == nil && state.Hold != "" {
			hold = state.Hold
			err = swap.SetHold(ctx, "")
		}
		problems = append(problems, err, connection.Close())
	}
	return hold, errors.Join(problems...)
}
