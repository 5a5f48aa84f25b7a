package stack

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/topics"
)

// ApplyTopics makes the topics as configured. It never deletes.
func ApplyTopics(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	plan, closeClient, err := PlanTopics(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer closeClient()
	if err := plan.Apply(ctx); err != nil {
		return fmt.Errorf("apply topics: %w", err)
	}
	for _, change := range plan.Changes {
		log.Info("topic made as configured", "change", change.String())
	}
	return nil
}

// PlanTopics compares the cluster's topics with the configuration. The plan
// lives until its client is closed.
func PlanTopics(ctx context.Context, cfg config.Config, log *slog.Logger) (*topics.Plan, func(), error) {
	client, _, err := kafka.Connect(cfg.Kafka, log)
	if err != nil {
		return nil, nil, err
	}
	plan, err := topics.NewPlan(ctx, kadm.NewClient(client), cfg.Topics.Settings())
	if err != nil {
		client.Close()
		return nil, nil, fmt.Errorf("compare topics at %s: %w", strings.Join(cfg.Kafka.Brokers, ", "), err)
	}
	return plan, client.Close, nil
}

// applySchema makes the table as configured, in every shard. It never drops.
func applySchema(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	for number, shard := range cfg.ClickHouse.PerShard() {
		if err := applyShard(ctx, shard, log.With("shard", number)); err != nil {
			return fmt.Errorf("shard %d: %w", number, err)
		}
	}
	return nil
}

func applyShard(ctx context.Context, cfg config.ClickHouse, log *slog.Logger) error {
	connection, err := clickhouse.Connect(cfg, log)
	if err != nil {
		return fmt.Errorf("connect to ClickHouse: %w", err)
	}
	applied, err := clickhouse.Apply(ctx, connection, cfg)
	for _, difference := range applied {
		log.Info("table made as configured", "change", difference.Subject)
	}
	closeErr := connection.Close()
	if err != nil {
		return fmt.Errorf("apply schema: %w", err)
	}
	if closeErr != nil {
		return fmt.Errorf("close the connection to ClickHouse: %w", closeErr)
	}
	return nil
}
