package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrThrownOut: this client is another member of the group than the one that
// partitions were assigned to.
//
// A member that the group gives up on while it is about to rejoin (it hung, and
// missed the end of the rebalance) is told UNKNOWN_MEMBER_ID, joins under a new
// id, and claims the partitions it had. The client does not say so: partitions
// that it is given again it takes for its own all along, and goes on where it
// was, though others may have had them in between; and a commit that waited for
// the rejoin goes out under the new id, which the broker accepts. What they
// committed would be taken back, and their records come twice.
var ErrThrownOut = errors.New("the group has thrown this member out")

// CheckMember gives ErrThrownOut unless a commit goes out as the member that it
// is for.
func CheckMember(sent, meant string) error {
	if sent != meant {
		return fmt.Errorf("%w: %q is %q now", ErrThrownOut, meant, sent)
	}
	return nil
}

// Membership is the id that a group has assigned partitions to, from the
// client's joining to its leaving. The zero value is ready.
type Membership struct {
	mu        sync.Mutex
	id        string // "" until it is known, and when the client knows that it was thrown out
	thrownOut bool
}

// Assigned belongs into OnPartitionsAssigned, which runs after every rejoin and
// before the offsets of new partitions are read. It tells whether the client is
// another member by now; then it is for the rest of this membership.
func (m *Membership) Assigned(client *kgo.Client) (thrownOut bool) {
	id, _ := client.GroupMetadata()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.id == "" {
		m.id = id
	}
	m.thrownOut = m.thrownOut || m.id != id
	return m.thrownOut
}

// Lost belongs into OnPartitionsLost: the client knows that it was thrown out,
// and all that it is assigned from now on comes anew.
func (m *Membership) Lost() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id = ""
}

// ID is what partitions are assigned to, or ErrThrownOut.
func (m *Membership) ID() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.thrownOut {
		return "", ErrThrownOut
	}
	return m.id, nil
}

// Leave leaves the group, so that others take over at once, and closes the
// client. It takes no longer than limit, broker or not: a client that waits to
// be let into a group that forms would wait for as long as that takes, so its
// context is cancelled.
func Leave(client *kgo.Client, cancelClient context.CancelFunc, limit time.Duration, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	client.AllowRebalance()
	if err := client.LeaveGroupContext(ctx); err != nil {
		log.Warn("could not leave the group; its partitions move when the session times out", "error", err)
	}
	cancelClient()
	client.CloseAllowingRebalance()
}
