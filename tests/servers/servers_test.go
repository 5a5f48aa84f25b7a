package servers

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMain(m *testing.M) { Main(m) }

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestNamesAreUniqueAndValid(t *testing.T) {
	t.Run("With Odd/Characters_"+strings.Repeat("long", 30), func(t *testing.T) {
		first, second := Name(t, "Topic"), Name(t, "Topic")
		require.NotEqual(t, first, second)
		require.Regexp(t, `^topic-[a-z0-9][a-z0-9-]*[a-z0-9]$`, first)
		require.LessOrEqual(t, len(first), maxNameLength)
	})
}

func TestKafkaTransactions(t *testing.T) {
	EachKafka(t, func(t *testing.T, brokers []string) {
		topic, group := Name(t, "topic"), Name(t, "group")
		createTopic(t, brokers, topic)
		produceInTransaction(t, brokers, topic, "aborted", kgo.TryAbort)
		produceInTransaction(t, brokers, topic, "committed", kgo.TryCommit)
		require.Equal(t, "committed", readFirst(t, brokers, topic))

		admin := newAdmin(t, brokers)
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 7, LeaderEpoch: -1, Metadata: "intent"})
		require.NoError(t, admin.CommitAllOffsets(testContext(t), group, offsets))
		fetched, err := admin.FetchOffsets(testContext(t), group)
		require.NoError(t, err)
		offset, ok := fetched.Lookup(topic, 0)
		require.True(t, ok)
		require.Equal(t, "intent", offset.Metadata)
	})
}

func TestApacheKafkaKeepsDataWhenKilled(t *testing.T) {
	server := ApacheKafka(t)
	topic := Name(t, "topic")
	createTopic(t, server.Addresses(), topic)
	produceInTransaction(t, server.Addresses(), topic, "kept", kgo.TryCommit)
	require.NoError(t, server.Kill())
	_, err := net.Dial("tcp", server.Addresses()[0])
	require.Error(t, err, "nothing listens while it is down")
	require.NoError(t, server.Restart(testContext(t)))
	require.Equal(t, "kept", readFirst(t, server.Addresses(), topic))
}

func TestClickHouseGivesEachTestADatabase(t *testing.T) {
	first, second := ClickHouse(t), ClickHouse(t)
	require.NotEqual(t, first.Database, second.Database)
	ctx := testContext(t)
	require.NoError(t, first.Conn(t).Exec(ctx, "CREATE TABLE rows (n UInt64) ENGINE = MergeTree ORDER BY n"))
	require.ErrorContains(t, second.Conn(t).Exec(ctx, "INSERT INTO rows VALUES (1)"), "rows")
}

func TestOwnClickHouseIsKilledAndBack(t *testing.T) {
	server := OwnClickHouse(t)
	require.NoError(t, server.Engine.Kill())
	require.NoError(t, server.Engine.WaitReady(testContext(t)))
	require.NoError(t, server.Conn(t).Ping(testContext(t)))
}

func TestS3GivesEachTestABucket(t *testing.T) {
	server := S3(t)
	client := server.Client(t)
	ctx := testContext(t)
	key := "audit log/2026 +ü.gz"
	_, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: &server.Bucket, Key: &key, Body: strings.NewReader("lines")})
	require.NoError(t, err)
	object, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &server.Bucket, Key: &key})
	require.NoError(t, err)
	defer object.Body.Close()
	body, err := io.ReadAll(object.Body)
	require.NoError(t, err)
	require.Equal(t, "lines", string(body))
}

func newAdmin(t *testing.T, brokers []string) *kadm.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return kadm.NewClient(client)
}

func createTopic(t *testing.T, brokers []string, topic string) {
	t.Helper()
	_, err := newAdmin(t, brokers).CreateTopic(testContext(t), 1, -1, nil, topic)
	require.NoError(t, err)
}

func produceInTransaction(t *testing.T, brokers []string, topic, value string, end kgo.TransactionEndTry) {
	t.Helper()
	ctx := testContext(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID(Name(t, "transaction")), kgo.DefaultProduceTopic(topic))
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.BeginTransaction())
	require.NoError(t, client.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr())
	require.NoError(t, client.EndTransaction(ctx, end))
}

func readFirst(t *testing.T, brokers []string, topic string) string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	fetches := client.PollRecords(testContext(t), 1)
	require.NoError(t, fetches.Err())
	return string(fetches.Records()[0].Value)
}
