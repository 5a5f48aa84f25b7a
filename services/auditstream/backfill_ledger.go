package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
)

// objectsLedger asks the ledger's tables of all shards for a backfill.
type objectsLedger struct {
	source string
	log    *slog.Logger
	shards []config.ClickHouse
	conns  clickhouse.Shards
	absent sync.Once
}

func openLedger(cfg config.ClickHouse, source string, log *slog.Logger) (*objectsLedger, error) {
	conns, err := clickhouse.ConnectShards(cfg, log)
	if err != nil {
		return nil, err
	}
	return &objectsLedger{source: source, log: log, shards: cfg.PerShard(), conns: conns}, nil
}

func (l *objectsLedger) close() error { return l.conns.Close() }

// Complete is every shard's answer. A shard without a ledger knows of none.
func (l *objectsLedger) Complete(ctx context.Context, ids []string, since, until time.Time) ([]string, error) {
	var all []string
	for i, conn := range l.conns {
		found, err := clickhouse.CompleteObjects(ctx, conn, l.shards[i], l.source, ids, since, until)
		if errors.Is(err, clickhouse.ErrNoLedger) {
			l.absent.Do(func() {
				l.log.Warn("there is no ledger to ask what was fetched already (auditstream schema apply makes it); all is announced", "error", err)
			})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w (--again announces without asking)", err)
		}
		all = append(all, found...)
	}
	return all, nil
}
