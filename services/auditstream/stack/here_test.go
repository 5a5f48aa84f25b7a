package stack_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/services/auditstream/stack"
)

// Commands that look find what runs here, and what is named where it is named.
func TestHere(t *testing.T) {
	cfg := configuration(t)
	opts := options(t)
	opts.Stages = []config.Command{}
	pipeline, err := stack.Start(t.Context(), cfg, opts)
	require.NoError(t, err)
	defer func() { require.NoError(t, pipeline.Close()) }()
	running := pipeline.Config()
	cfg.Embedded = running.Embedded
	cfg.Embedded.S3Address = pipeline.S3().Address()
	running.Embedded = cfg.Embedded
	require.Equal(t, running, stack.Here(cfg))
	_, err = pipeline.S3().Client().ListBuckets(context.WithoutCancel(t.Context()), nil)
	require.NoError(t, err)

	named := config.Default()
	named.Kafka.Brokers = []string{"kafka:9092"}
	named.ClickHouse.Addresses = []string{"clickhouse:9000"}
	named.S3.Region = "eu-central-1"
	source := config.DefaultSource()
	source.ID, source.Bucket = "s", "b"
	named.Sources = []config.Source{source}
	require.Equal(t, named, stack.Here(named))

	cfg.Embedded.S3, cfg.Sources = true, named.Sources
	require.Equal(t, running.S3, stack.Here(cfg).S3, "sources may be in the server of `up`")
	require.Equal(t, named.Sources, stack.Here(cfg).Sources)

	alone := config.Default()
	alone.Kafka.Brokers = []string{"kafka:9092"}
	require.Equal(t, alone, stack.Here(alone), "what belongs to a pipeline elsewhere is not here")
	sharded := config.Default()
	sharded.ClickHouse.Shards = []config.Shard{{Addresses: []string{"a:9000"}}, {Addresses: []string{"b:9000"}}}
	require.Equal(t, sharded.ClickHouse, stack.Here(sharded).ClickHouse)
}
