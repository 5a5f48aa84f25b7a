package top

import (
	"context"
	"strings"
	"time"
)

// openStates are those of transactions that hold readers up.
var openStates = []string{"Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"}

// transactions finds those that are not ended. A transactional id is a group's
// name and an instance's.
func (l *look) transactions(ctx context.Context) {
	listed, err := l.admin.ListTransactions(ctx, nil, openStates)
	if err != nil {
		l.problem("open transactions are unknown: %s", err)
		return
	}
	for i := range l.sample.Stages {
		l.sample.Stages[i].Transactions = &Transactions{}
	}
	var ours []string
	for id := range listed {
		if l.stageOf(id) != nil {
			ours = append(ours, id)
		}
	}
	if len(ours) == 0 {
		return
	}
	described, err := l.admin.DescribeTransactions(ctx, ours...)
	if err != nil {
		l.problem("describe open transactions: %s", err)
	}
	for _, id := range ours {
		open := l.stageOf(id).Transactions
		open.Open++
		transaction, known := described[id]
		if !known || transaction.Err != nil || transaction.StartTimestamp <= 0 {
			continue // ended meanwhile, most likely
		}
		since := time.UnixMilli(transaction.StartTimestamp).UTC()
		if open.Oldest == nil || since.Before(open.Oldest.Since) {
			open.Oldest = &Transaction{ID: id, State: transaction.State, Since: since, Seconds: max(l.sample.At.Sub(since).Seconds(), 0)}
		}
	}
}

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
