package deadletter

import (
	"slices"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/topics"
)

// Reasons are all that a dead letter of any stage may have.
func Reasons() []topics.Reason {
	all := topics.Reasons()
	for _, reason := range audit.Reasons() {
		all = append(all, topics.Reason(reason))
	}
	slices.Sort(all)
	return all
}
