package top

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/tests/golden"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

func TestMain(m *testing.M) { servers.Main(m) }

const patience = 30 * time.Second

// pipeline is topics and groups of one test, without stages.
type pipeline struct {
	t       *testing.T
	brokers []string
	names   topics.Names
	group   string
	client  *kgo.Client
	admin   *kadm.Client
	now     time.Time
}

func newPipeline(t *testing.T, brokers []string) *pipeline {
	t.Helper()
	name := servers.Name(t, "top")
	p := &pipeline{t: t, brokers: brokers, names: topics.NewNames(name + "."), group: name, now: time.Now().Truncate(time.Millisecond)}
	var err error
	p.client, err = kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	t.Cleanup(p.client.Close)
	p.admin = kadm.NewClient(p.client)
	for _, topic := range []string{p.names.Objects, p.names.Raw, p.names.Normalized, p.names.DeadLetter} {
		created, err := p.admin.CreateTopic(t.Context(), 2, 1, nil, topic)
		require.NoError(t, err)
		require.NoError(t, created.Err)
	}
	return p
}

func (p *pipeline) sampler() *Sampler {
	p.t.Helper()
	sampler, err := NewSampler(Options{
		Kafka: config.Kafka{Brokers: p.brokers, Group: p.group}, Topics: p.names, Window: 15 * time.Minute,
		Patience: patience, Now: func() time.Time { return p.now },
	})
	require.NoError(p.t, err)
	p.t.Cleanup(sampler.Close)
	return sampler
}

func (p *pipeline) sample(sampler *Sampler) *Sample {
	p.t.Helper()
	sample, err := sampler.Sample(p.t.Context())
	require.NoError(p.t, err)
	return sample
}

// produce writes one record of each age, the oldest first.
func (p *pipeline) produce(topic string, partition int32, ages ...time.Duration) {
	p.t.Helper()
	for _, age := range ages {
		record := &kgo.Record{Topic: topic, Partition: partition, Value: []byte("x"), Timestamp: p.now.Add(-age)}
		require.NoError(p.t, p.client.ProduceSync(p.t.Context(), record).FirstErr())
	}
}

func (p *pipeline) letter(reason topics.Reason, age time.Duration) {
	p.t.Helper()
	letter := topics.DeadLetterRecord{Stage: "enricher", Reason: reason, Error: "e", Topic: p.names.Raw}
	record := letter.Record(p.names.DeadLetter)
	record.Timestamp = p.now.Add(-age)
	require.NoError(p.t, p.client.ProduceSync(p.t.Context(), record).FirstErr())
}

func (p *pipeline) commit(stage, topic string, partition int32, offset int64, metadata string) {
	p.t.Helper()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: offset, LeaderEpoch: -1, Metadata: metadata})
	require.NoError(p.t, p.admin.CommitAllOffsets(p.t.Context(), p.group+"-"+stage, offsets))
}

func stageOf(t *testing.T, sample *Sample, name string) *Stage {
	t.Helper()
	for i := range sample.Stages {
		if sample.Stages[i].Name == name {
			return &sample.Stages[i]
		}
	}
	t.Fatalf("no stage %s among %+v", name, sample.Stages)
	return nil
}

func TestNothingRunsYet(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, brokers []string) {
		p := newPipeline(t, brokers)
		sampler := p.sampler()
		sample := p.sample(sampler)
		// Apache Kafka makes its topic of groups when it is first asked for one.
		require.Eventually(t, func() bool { sample = p.sample(sampler); return len(sample.Problems) == 0 }, patience, 100*time.Millisecond)
		require.Len(t, sample.Stages, 3)
		for _, stage := range sample.Stages {
			require.Empty(t, stage.Instances)
			require.Len(t, stage.Partitions, 2)
			require.Equal(t, Lag{Seconds: new(float64)}, stage.Lag)
			require.Nil(t, stage.OldestIntent)
			require.NotNil(t, stage.Transactions)
			require.Zero(t, stage.Transactions.Open)
		}
		require.True(t, sample.DeadLetters.Complete)
		require.Zero(t, sample.DeadLetters.Total)
	})
}

func TestTopicsThatAreMissingAreSaid(t *testing.T) {
	p := newPipeline(t, servers.EmbeddedKafka(t, "").Addresses())
	_, err := p.admin.DeleteTopic(t.Context(), p.names.Raw)
	require.NoError(t, err)
	sample := p.sample(p.sampler())
	require.Contains(t, strings.Join(sample.Problems, "\n"), p.names.Raw)
	require.Empty(t, stageOf(t, sample, "enricher").Partitions)
	require.Len(t, stageOf(t, sample, "sink").Partitions, 2)
}

func TestLagRatesAndAges(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, brokers []string) {
		p := newPipeline(t, brokers)
		p.produce(p.names.Raw, 0, time.Hour, time.Minute, time.Second)
		p.produce(p.names.Raw, 1, 2*time.Minute)
		p.commit("enricher", p.names.Raw, 0, 1, "")
		p.commit("enricher", p.names.Raw, 1, 1, "")
		p.produce(p.names.Normalized, 0, time.Minute)
		// A group of the pipeline that is none of the three stages.
		p.commit("ledger", p.names.Normalized, 0, 0, "")

		sampler := p.sampler()
		sample := p.sample(sampler)
		require.Empty(t, sample.Problems)
		enricher := stageOf(t, sample, "enricher")
		require.Equal(t, int64(2), enricher.Lag.Stable)
		require.Equal(t, int64(2), enricher.Lag.HighWatermark)
		require.InDelta(t, 60, *enricher.Lag.Seconds, 0.01, "of the oldest that is not consumed, not of the oldest that is there")
		require.Nil(t, enricher.Consumed, "one sample has no rate")
		require.InDelta(t, 60, *stageOf(t, sample, "sink").Lag.Seconds, 0.01, "a group without offsets is behind by all that is there")
		require.Equal(t, int64(1), stageOf(t, sample, "ledger").Lag.Stable)
		require.InDelta(t, 60, *stageOf(t, sample, "ledger").Lag.Seconds, 0.01)

		p.commit("enricher", p.names.Raw, 0, 2, "")
		p.produce(p.names.Normalized, 1, 0, 0, 0, 0)
		p.now = p.now.Add(2 * time.Second)
		sample = p.sample(sampler)
		enricher = stageOf(t, sample, "enricher")
		require.InDelta(t, 0.5, *enricher.Consumed, 0.001)
		require.InDelta(t, 2, *enricher.Produced, 0.001)
		require.InDelta(t, 3, *enricher.Lag.Seconds, 0.01)
		require.Zero(t, *stageOf(t, sample, "ledger").Consumed)
	})
}

func TestOpenTransactionHoldsUpReaders(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, brokers []string) {
		p := newPipeline(t, brokers)
		producer, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID(p.group+"-enricher-one"),
			kgo.RecordPartitioner(kgo.ManualPartitioner()))
		require.NoError(t, err)
		defer producer.Close()
		require.NoError(t, producer.BeginTransaction())
		require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{Topic: p.names.Normalized, Value: []byte("x")}).FirstErr())

		sampler := p.sampler()
		p.now = time.Now().Add(7 * time.Second)
		sample := p.sample(sampler)
		open := stageOf(t, sample, "enricher").Transactions
		require.Equal(t, 1, open.Open)
		require.NotNil(t, open.Oldest)
		require.Equal(t, p.group+"-enricher-one", open.Oldest.ID)
		require.GreaterOrEqual(t, open.Oldest.Seconds, 7.0)
		require.Less(t, open.Oldest.Seconds, 60.0)
		require.Zero(t, stageOf(t, sample, "fetcher").Transactions.Open)
		lag := stageOf(t, sample, "sink").Lag
		require.Equal(t, int64(0), lag.Stable, "nothing can be read")
		require.Equal(t, int64(1), lag.HighWatermark)

		// An aborted transaction leaves offsets behind and no record.
		require.NoError(t, producer.EndTransaction(t.Context(), kgo.TryAbort))
		require.Eventually(t, func() bool { return p.sample(sampler).Stages[1].Transactions.Open == 0 }, patience, 20*time.Millisecond)
		lag = stageOf(t, p.sample(sampler), "sink").Lag
		require.Equal(t, int64(2), lag.Stable)
		require.Zero(t, *lag.Seconds, "there is no record that is not consumed")
	})
}

func intentText(to int64, records int, at time.Time) string {
	return fmt.Sprintf(`auditstream/1 {"topic":"t","intent":{"to":%d,"records":%d,"ids":"000102030405060708090a0b0c0d0e0f","attempt":2,"target":"db.table","at":%d}}`,
		to, records, at.Unix())
}

func TestOpenIntent(t *testing.T) {
	p := newPipeline(t, servers.EmbeddedKafka(t, "").Addresses())
	p.produce(p.names.Normalized, 0, time.Minute, time.Minute, time.Minute)
	p.now = p.now.Truncate(time.Second)
	p.commit("sink", p.names.Normalized, 0, 1, intentText(3, 2, p.now.Add(-5*time.Second)))
	p.commit("sink", p.names.Normalized, 1, 0, `auditstream/9 {}`)
	sample := p.sample(p.sampler())
	intent := stageOf(t, sample, "sink").OldestIntent
	require.Equal(t, &Intent{
		Topic: p.names.Normalized, Partition: 0, From: 1, To: 3, Records: 2, Attempt: 2, Target: "db.table",
		Since: p.now.Add(-5 * time.Second).UTC(), Seconds: 5,
	}, intent)
	require.Len(t, sample.Problems, 1, "metadata of a newer version is told, not passed over")
	require.Contains(t, sample.Problems[0], "newer version")
}

func TestDeadLettersOfTheWindow(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, brokers []string) {
		p := newPipeline(t, brokers)
		p.letter("not-json", 2*time.Hour)
		p.letter("not-json", 10*time.Minute)
		p.letter("not-json", time.Minute)
		p.letter("partial-line", time.Minute)
		sampler := p.sampler()
		letters := p.sample(sampler).DeadLetters
		require.True(t, letters.Complete)
		require.Equal(t, []DeadLetterCount{{"enricher", "not-json", 2}, {"enricher", "partial-line", 1}}, letters.Reasons)

		p.letter("partial-line", 0)
		p.now = p.now.Add(6 * time.Minute)
		letters = p.sample(sampler).DeadLetters
		require.Equal(t, []DeadLetterCount{{"enricher", "partial-line", 2}, {"enricher", "not-json", 1}}, letters.Reasons,
			"what is new is counted, what is too old no longer")
		require.Equal(t, int64(3), letters.Total)
	})
}

func TestInstances(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, brokers []string) {
		p := newPipeline(t, brokers)
		member := func(id string) {
			client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ClientID(id), kgo.ConsumerGroup(p.group+"-enricher"),
				kgo.ConsumeTopics(p.names.Raw), kgo.DisableAutoCommit())
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				for ctx.Err() == nil {
					client.PollFetches(ctx)
				}
			}()
			t.Cleanup(func() { cancel(); <-done; client.Close() })
		}
		member("one")
		member("two")
		sampler := p.sampler()
		var enricher *Stage
		require.Eventually(t, func() bool {
			enricher = stageOf(t, p.sample(sampler), "enricher")
			return enricher.State == "Stable" && len(enricher.Instances) == 2 &&
				enricher.Instances[0].Count() == 1 && enricher.Instances[1].Count() == 1
		}, patience, 20*time.Millisecond)
		require.Equal(t, "one", enricher.Instances[0].ClientID)
		require.Equal(t, "two", enricher.Instances[1].ClientID)
		for _, partition := range enricher.Partitions {
			require.Contains(t, partition.Instance, "@")
		}
	})
}

func TestBrokersAway(t *testing.T) {
	broker := servers.EmbeddedKafka(t, "")
	p := newPipeline(t, broker.Addresses())
	sampler := p.sampler()
	p.sample(sampler)
	require.NoError(t, broker.Close())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := sampler.Sample(ctx)
	require.Error(t, err)
	sampler.Close()
	_, err = sampler.Sample(t.Context())
	require.ErrorIs(t, err, errClosed)
}

// The shape of the JSON is what programs rely on.
func TestGolden(t *testing.T) {
	p := newPipeline(t, servers.EmbeddedKafka(t, "").Addresses())
	p.now = time.Now().Truncate(10 * time.Second).Add(-10 * time.Second)
	p.produce(p.names.Raw, 0, 90*time.Second, time.Second)
	p.produce(p.names.Normalized, 1, 3*time.Second, 3*time.Second)
	p.commit("enricher", p.names.Raw, 0, 0, "")
	p.commit("sink", p.names.Normalized, 1, 0, intentText(2, 2, p.now.Add(-2*time.Second)))
	p.letter("not-json", time.Minute)
	sampler := p.sampler()
	p.sample(sampler)
	p.commit("enricher", p.names.Raw, 0, 1, "")
	now := p.now
	p.now = now.Add(2 * time.Second)
	sample := p.sample(sampler)
	text, err := json.MarshalIndent(sample, "", "  ")
	require.NoError(t, err)
	text = bytes.ReplaceAll(text, []byte(p.group), []byte("acme"))
	var renamed Sample
	require.NoError(t, json.Unmarshal(text, &renamed))
	var plain bytes.Buffer
	require.NoError(t, renamed.Text(&plain, ByLag))
	for _, entry := range []struct{ name, got string }{{"sample.json", string(text) + "\n"}, {"sample.txt", plain.String()}} {
		got := entry.got
		// What differs from run to run.
		for seconds := -200; seconds <= 200; seconds++ {
			got = strings.ReplaceAll(got, now.Add(time.Duration(seconds)*time.Second).UTC().Format(time.RFC3339), "<now"+strconv.Itoa(seconds)+"s>")
		}
		golden.Equal(t, filepath.Join("testdata", entry.name), got)
	}
}
