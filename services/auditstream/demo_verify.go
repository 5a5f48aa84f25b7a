package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/services/auditstream/verify"
)

// verify holds the ledger against the table, as the command does, and shows the
// outcome. The demo's own check knows what was put in; this one only what the
// pipeline has recorded itself.
func (d *demo) verify(ctx context.Context) (complete bool, err error) {
	log := slog.New(slog.DiscardHandler)
	connection, err := clickhouse.Connect(d.cfg.ClickHouse, log)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	flight, err := verify.OpenTopics(d.cfg, log)
	if err != nil {
		return false, err
	}
	defer flight.Close()
	var report *verify.Report
	// The ledger's last entries may still be on their way.
	for deadline := time.Now().Add(settleTimeout); ; {
		if report, err = verify.Run(ctx, verify.Options{ClickHouse: d.cfg.ClickHouse, Shards: []driver.Conn{connection}, Flight: flight}); err != nil {
			return false, err
		}
		behind := slices.ContainsFunc(report.Lag, func(lag verify.Lag) bool { return lag.Records > 0 })
		if !behind && len(report.UnderWay) == 0 || time.Now().After(deadline) {
			break
		}
		if !delay.For(ctx, 500*time.Millisecond) {
			return false, ctx.Err()
		}
	}
	var text strings.Builder
	if err := report.Text(&text); err != nil {
		return false, err
	}
	d.say("\nauditstream verify\n  %s\n", strings.ReplaceAll(strings.TrimSpace(text.String()), "\n", "\n  "))
	return report.Complete(), nil
}
