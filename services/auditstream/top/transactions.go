package top

import (
	"context"
	"strings"

	"github.com/auditstream/auditstream/pkg/kafka"
)

// transactions finds those that are not ended.
func (l *look) transactions(ctx context.Context) {
	found, err := kafka.OpenTransactions(ctx, l.admin, l.names...)
	if err != nil {
		l.problem("open transactions are unknown: %s", err)
		return
	}
	for i := range l.sample.Stages {
		l.sample.Stages[i].Transactions = &Transactions{}
	}
	for _, one := range found {
		open := l.stageOf(one.ID).Transactions
		open.Open++
		if !one.Since.IsZero() && (open.Oldest == nil || one.Since.Before(open.Oldest.Since)) {
			open.Oldest = &Transaction{ID: one.ID, State: one.State, Since: one.Since, Seconds: max(l.sample.At.Sub(one.Since).Seconds(), 0)}
		}
	}
}

// stageOf is the stage whose group is the longest that the id begins with.
func (l *look) stageOf(transactionalID string) *Stage {
	var found *Stage
	for i := range l.sample.Stages {
		stage := &l.sample.Stages[i]
		if strings.HasPrefix(transactionalID, stage.Group+"-") && (found == nil || len(stage.Group) > len(found.Group)) {
			found = stage
		}
	}
	return found
}
