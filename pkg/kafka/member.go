package kafka

import (
	"errors"
	"fmt"
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
