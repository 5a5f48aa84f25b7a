package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditstream/auditstream/pkg/delay"
)

// sessions does what kfake forgets: a member that was gone when the answer to
// its JoinGroup was due has no session timer any more, so it stays in the
// group and holds up every rebalance, and the others' repeated requests put
// off the rebalance's own time limit for ever. Kafka expires such a member
// when its session times out; here it is sent off after that time.
type sessions struct {
	c    *campaign
	seen map[string]time.Time // members, first
	gone map[string]time.Time // processes: ended or stopped since
}

func newSessions(c *campaign) *sessions {
	return &sessions{c: c, seen: map[string]time.Time{}, gone: map[string]time.Time{}}
}

// remember makes a process known by the client id that its group members have.
func (c *campaign) remember(p *stageProcess) { c.processes.Store(p.client, p) }

func (s *sessions) run(ctx context.Context) {
	for delay.For(ctx, time.Second) {
		for _, stage := range stages {
			s.look(ctx, s.c.group+"-"+stage)
		}
	}
}

func (s *sessions) look(ctx context.Context, group string) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	described, err := s.c.admin.DescribeGroups(ctx, group)
	if err != nil || described[group].Err != nil || described[group].State == "Stable" {
		return
	}
	now := time.Now()
	newest := map[string]string{} // member by client
	for _, member := range described[group].Members {
		if _, known := s.seen[member.MemberID]; !known {
			s.seen[member.MemberID] = now
		}
		if before := newest[member.ClientID]; before == "" || s.seen[member.MemberID].After(s.seen[before]) {
			newest[member.ClientID] = member.MemberID
		}
	}
	for _, member := range described[group].Members {
		latest := s.seen[newest[member.ClientID]]
		// A process that has joined anew has no use for what it was before.
		left := latest.After(s.seen[member.MemberID]) && now.Sub(latest) > sessionTimeout+time.Second
		if left || s.absent(member.ClientID, now) > sessionTimeout+time.Second {
			s.send(ctx, group, member.MemberID)
		}
	}
}

// absent is for how long the process of a client has been ended or stopped.
func (s *sessions) absent(clientID string, now time.Time) time.Duration {
	name, rest, _ := strings.Cut(clientID, ".")
	number, _, _ := strings.Cut(rest, "-")
	known, found := s.c.processes.Load(name + "." + number)
	if !found {
		return 0
	}
	if p, ok := known.(*stageProcess); ok && p.alive() && !stopped(p.pid) {
		delete(s.gone, clientID)
		return 0
	}
	if _, noticed := s.gone[clientID]; !noticed {
		s.gone[clientID] = now
	}
	return now.Sub(s.gone[clientID])
}

// send lets a member leave the group.
func (s *sessions) send(ctx context.Context, group, memberID string) {
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group = group
	member := kmsg.NewLeaveGroupRequestMember()
	member.MemberID = memberID
	request.Members = append(request.Members, member)
	_, err := s.c.client.Request(ctx, request)
	s.c.note(fmt.Sprintf("session expired of %s in %s (%v)", memberID, group, err))
}
