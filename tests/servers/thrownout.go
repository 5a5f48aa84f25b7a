package servers

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditstream/auditstream/pkg/embedded"
)

// ThrowOut has a group give up on a member that is about to rejoin, as it does
// with one that hangs between the end of a rebalance's patience and its own
// request: told to rejoin by its heartbeat, the member asks under an id that the
// group no longer knows. It returns when the group has forgotten the member;
// from then on others own its partitions. rejoin lets its request through.
func ThrowOut(t testing.TB, kafka *embedded.Kafka, client *kgo.Client, group, member string) (rejoin func()) {
	t.Helper()
	cluster := kafka.Cluster()
	cluster.ControlKey(int16(kmsg.Heartbeat), func(request kmsg.Request) (kmsg.Response, error, bool) {
		heartbeat, _ := request.(*kmsg.HeartbeatRequest)
		if heartbeat.MemberID != member {
			cluster.KeepControl()
			return nil, nil, false
		}
		response := heartbeat.ResponseKind().(*kmsg.HeartbeatResponse) //nolint:forcetypeassert // its own
		response.ErrorCode = kerr.RebalanceInProgress.Code
		return response, nil, true
	})
	asked, rejoin := HoldJoins(t, kafka, func(asking string) bool { return asking == member })
	select {
	case <-asked:
	case <-time.After(time.Minute):
		require.Fail(t, "the member does not ask to join again")
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = group
	gone := kmsg.NewLeaveGroupRequestMember()
	gone.MemberID = member
	leave.Members = append(leave.Members, gone)
	response, err := leave.RequestWith(t.Context(), client)
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(response.ErrorCode))
	for _, left := range response.Members {
		require.NoError(t, kerr.ErrorForCode(left.ErrorCode))
	}
	return rejoin
}

// HoldJoins holds the requests to join a group of those members until release.
// asked is closed with the first.
func HoldJoins(t testing.TB, kafka *embedded.Kafka, those func(member string) bool) (asked <-chan struct{}, release func()) {
	t.Helper()
	first, released := make(chan struct{}), make(chan struct{})
	ask := sync.OnceFunc(func() { close(first) })
	cluster := kafka.Cluster()
	cluster.ControlKey(int16(kmsg.JoinGroup), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if join, _ := request.(*kmsg.JoinGroupRequest); those(join.MemberID) {
			ask()
			cluster.SleepControl(func() { <-released })
		}
		return nil, nil, false
	})
	release = sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	return first, release
}

// GroupMembers are the ids of those that have joined the group; none while the
// broker doesn't say.
func GroupMembers(t testing.TB, client *kgo.Client, group string) (members []string) {
	t.Helper()
	described, err := kadm.NewClient(client).DescribeGroups(t.Context(), group)
	if err != nil {
		t.Log(err)
		return nil
	}
	for _, member := range described[group].Members {
		members = append(members, member.MemberID)
	}
	return members
}
