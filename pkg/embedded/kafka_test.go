package embedded

import (
	"context"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func startKafka(t *testing.T, options KafkaOptions) *Kafka {
	t.Helper()
	kafka, err := StartKafka(testContext(t), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, kafka.Close()) })
	return kafka
}

func newClient(t *testing.T, kafka *Kafka, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(kafka.Addresses()...))...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

// transact produces in one transaction that also commits offsets, as a stage
// does.
func transact(t *testing.T, kafka *Kafka, value string, end kgo.TransactionEndTry) {
	t.Helper()
	ctx := testContext(t)
	client := newClient(t, kafka, kgo.TransactionalID("stage-1"), kgo.DefaultProduceTopic("raw"))
	defer client.Close()
	require.NoError(t, client.BeginTransaction())
	require.NoError(t, client.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr())
	require.NoError(t, client.EndTransaction(ctx, end))
}

func readCommitted(t *testing.T, kafka *Kafka, want int) (values []string) {
	t.Helper()
	client := newClient(t, kafka, kgo.ConsumeTopics("raw"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	for len(values) < want {
		fetches := client.PollFetches(testContext(t))
		require.NoError(t, fetches.Err())
		for _, record := range fetches.Records() {
			values = append(values, string(record.Value))
		}
	}
	return values
}

func TestKafkaKeepsEverythingOverARestart(t *testing.T) {
	ctx := testContext(t)
	options := KafkaOptions{Directory: t.TempDir()}
	kafka := startKafka(t, options)
	options.Address = kafka.Addresses()[0]
	admin := kadm.NewClient(newClient(t, kafka))
	_, err := admin.CreateTopic(ctx, 1, 1, map[string]*string{"retention.ms": kadm.StringPtr("-1")}, "raw")
	require.NoError(t, err)

	var want []string
	for round, value := range []string{"first", "second", "third"} {
		transact(t, kafka, "aborted "+value, kgo.TryAbort)
		transact(t, kafka, value, kgo.TryCommit)
		want = append(want, value)
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: "raw", At: int64(round), LeaderEpoch: -1, Metadata: "intent " + value})
		require.NoError(t, admin.CommitAllOffsets(ctx, "sink", offsets))

		require.NoError(t, kafka.Close())
		kafka = startKafka(t, options)
		admin = kadm.NewClient(newClient(t, kafka))

		require.Equal(t, options.Address, kafka.Addresses()[0])
		require.Equal(t, want, readCommitted(t, kafka, len(want)))
		committed, err := admin.FetchOffsets(ctx, "sink")
		require.NoError(t, err)
		offset, found := committed.Lookup("raw", 0)
		require.True(t, found)
		require.Equal(t, int64(round), offset.At)
		require.Equal(t, "intent "+value, offset.Metadata)
		configs, err := admin.DescribeTopicConfigs(ctx, "raw")
		require.NoError(t, err)
		require.Equal(t, "-1", configValue(t, configs, "retention.ms"))
	}
}

func configValue(t *testing.T, configs kadm.ResourceConfigs, key string) string {
	t.Helper()
	for _, config := range configs[0].Configs {
		if config.Key == key {
			return config.MaybeValue()
		}
	}
	t.Fatalf("no setting %s", key)
	return ""
}

func TestKafkaMakesNoTopicForAsking(t *testing.T) {
	kafka := startKafka(t, KafkaOptions{})
	client := newClient(t, kafka, kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(1))
	err := client.ProduceSync(testContext(t), &kgo.Record{Topic: "unmade", Value: []byte("x")}).FirstErr()
	require.ErrorIs(t, err, kerr.UnknownTopicOrPartition)
}

func TestKafkaSaysWhyItDoesNotStart(t *testing.T) {
	t.Run("port in use", func(t *testing.T) {
		kafka := startKafka(t, KafkaOptions{})
		_, err := StartKafka(testContext(t), KafkaOptions{Address: kafka.Addresses()[0]})
		require.ErrorIs(t, err, ErrAddressInUse)
		require.ErrorContains(t, err, kafka.Addresses()[0])
	})
	t.Run("folder in use", func(t *testing.T) {
		directory := t.TempDir()
		startKafka(t, KafkaOptions{Directory: directory})
		_, err := StartKafka(testContext(t), KafkaOptions{Directory: directory})
		require.ErrorContains(t, err, "in use by another process")
	})
	t.Run("address is none", func(t *testing.T) {
		_, err := StartKafka(testContext(t), KafkaOptions{Address: "nowhere"})
		require.ErrorContains(t, err, "nowhere")
	})
}

func TestKafkaCloseLeavesNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	kafka, err := StartKafka(testContext(t), KafkaOptions{Directory: t.TempDir()})
	require.NoError(t, err)
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.Addresses()...))
	require.NoError(t, err)
	require.NoError(t, client.Ping(testContext(t)))
	idle, err := net.Dial("tcp", kafka.Addresses()[0])
	require.NoError(t, err)
	defer idle.Close()

	require.NoError(t, kafka.Close())
	require.NoError(t, kafka.Close(), "a second Close is harmless")
	client.Close()
	requireFree(t, kafka.Addresses()[0])
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 5*time.Second, 10*time.Millisecond,
		"goroutines:\n%s", goroutines{})
}

// goroutines prints all stacks when the message is made, and not before.
type goroutines struct{}

func (goroutines) String() string {
	buffer := make([]byte, 1<<20)
	return strings.TrimSpace(string(buffer[:runtime.Stack(buffer, true)]))
}

func TestKafkaStartIsBoundByItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	kafka, err := StartKafka(ctx, KafkaOptions{})
	require.NoError(t, err)
	defer kafka.Close()
	cancel()
	require.NoError(t, newClient(t, kafka).Ping(testContext(t)), "the start's context ends the start only")
}
