package enricher_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/generate"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/services/enricher"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

const (
	lineLimit = 1 << 20
	patience  = 60 * time.Second
	received  = 1_700_000_000_000
)

type broker struct {
	t         testing.TB
	addresses []string
	client    *kgo.Client
	names     topics.Names
	group     string
	geoip     string
}

func TestMain(m *testing.M) { servers.Main(m) }

func eachKafka(t *testing.T, test func(t *testing.T, k *broker)) {
	t.Helper()
	servers.EachKafka(t, func(t *testing.T, brokers []string) { test(t, newBroker(t, brokers)) })
}

func newBroker(t testing.TB, addresses []string) *broker {
	t.Helper()
	names := topics.NewNames(fmt.Sprintf("%d.", time.Now().UnixNano()))
	client, err := kgo.NewClient(kgo.SeedBrokers(addresses...), kgo.ProducerBatchMaxBytes(lineLimit+topics.RecordOverhead))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	admin := kadm.NewClient(client)
	create := func(name string, size int64) {
		text := fmt.Sprint(size)
		_, err := admin.CreateTopic(t.Context(), 4, 1, map[string]*string{"max.message.bytes": &text}, name)
		require.NoError(t, err)
	}
	create(names.Raw, topics.MaxMessageBytes(lineLimit))
	create(names.Normalized, topics.MaxNormalizedBytes(lineLimit))
	create(names.DeadLetter, topics.MaxMessageBytes(lineLimit))
	create(names.Ledger, topics.RecordOverhead)
	return &broker{t: t, addresses: addresses, client: client, names: names, group: "test" + names.Raw}
}

func (k *broker) groupName() string { return k.group + "-enricher" }

func (k *broker) options(registry prometheus.Registerer) enricher.Options {
	return enricher.Options{
		Kafka:     config.Kafka{Brokers: k.addresses, Group: k.group, Instance: "one", SessionTimeout: 6 * time.Second},
		Topics:    k.names,
		LineLimit: lineLimit,
		Enricher:  config.Enricher{GeoIP: config.GeoIP{Directory: k.geoip}},
		Sources: map[string]*audit.Source{
			"prod": {WorkspaceID: "acme", ID: "prod", Type: "kubernetes-audit", TTLDays: 30},
		},
		Registerer: registry,
	}
}

func (k *broker) start(registry *prometheus.Registry) (stop func()) {
	k.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); k.runEnricher(ctx, k.t, registry) }()
	stop = func() { cancel(); <-done }
	k.t.Cleanup(stop)
	return stop
}

// read returns the first count committed records of a topic, in any order of
// partitions.
func (k *broker) read(topic string, count int) []*kgo.Record {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), patience)
	defer cancel()
	reader, err := kgo.NewClient(kgo.SeedBrokers(k.addresses...), kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(k.t, err)
	defer reader.Close()
	var records []*kgo.Record
	for len(records) < count {
		records = append(records, reader.PollFetches(ctx).Records()...)
		require.NoError(k.t, ctx.Err(), "read %d of %d records of %s", len(records), count, topic)
	}
	tail, cancelTail := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancelTail()
	for tail.Err() == nil {
		records = append(records, reader.PollFetches(tail).Records()...)
	}
	require.Len(k.t, records, count)
	return records
}

func values(t testing.TB, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	result := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				if label.GetName() == "reason" || label.GetName() == "outcome" {
					name += "/" + label.GetValue()
				}
			}
			result[name] += metric.GetCounter().GetValue()
		}
	}
	return result
}

const eventLine = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"0a","stage":"ResponseComplete",` +
	`"requestURI":"/api/v1/namespaces/web/secrets","verb":"list","user":{"username":"alice"},"sourceIPs":["203.0.113.7"],` +
	`"objectRef":{"resource":"secrets","namespace":"web","apiVersion":"v1"},"requestReceivedTimestamp":"2024-03-01T10:00:00.000000Z"}`

func TestEveryLineHasAnOutcome(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, k *broker) {
		geoip := filepath.Join(t.TempDir(), "geoip")
		_, err := generate.WriteGeoIP(geoip)
		require.NoError(t, err)
		k.geoip = geoip

		object := identity.ObjectID("aws", "b", "k", "e")
		line := func(number int64, source, text string) *kgo.Record {
			raw := topics.RawLine{Source: source, Object: object, Line: number, ReceivedAt: received, Bytes: []byte(text)}
			return raw.Record(k.names.Raw)
		}
		huge := strings.Replace(eventLine, `"alice"`, `"alice","extra":{"k":["`+strings.Repeat(`\u0001`, lineLimit/7)+`"]}`, 1)
		records := []*kgo.Record{
			line(1, "prod", eventLine),
			line(2, "prod", "not JSON"),
			line(3, "prod", "   "),
			line(4, "elsewhere", eventLine),
			{Topic: k.names.Raw, Value: []byte(eventLine)},
			{Topic: k.names.Raw, Value: []byte(eventLine), Headers: []kgo.RecordHeader{{Key: "source", Value: bytes.Repeat([]byte("s"), 1<<20)}}},
			line(5, "prod", `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[`+eventLine+`,{"kind":"Pod"},`+eventLine+`]}`),
			line(6, "prod", huge),
		}
		require.NoError(t, k.client.ProduceSync(t.Context(), records...).FirstErr())

		registry := prometheus.NewRegistry()
		stop := k.start(registry)
		rows := make(map[string]event.Row)
		for _, record := range k.read(k.names.Normalized, 4) {
			var row event.Row
			require.NoError(t, topics.DecodeNormalized(record.Value, &row))
			rows[row.ID] = row
			require.Equal(t, row.ID[:len(record.Key)], string(record.Key))
		}
		first, ok := rows[identity.RowID(object, 1, 0)]
		require.True(t, ok)
		require.Equal(t, "acme", first.WorkspaceID)
		require.Equal(t, eventLine, string(first.RawLog))
		require.Equal(t, "list secrets", first.EventName)
		require.Equal(t, "203.0.113.7", first.Src.IP)
		require.NotEmpty(t, first.Src.ASCountryCode)
		require.Equal(t, uint32(received/1000), first.ReceivedAt)
		require.Contains(t, rows, identity.RowID(object, 5, 0))
		require.Contains(t, rows, identity.RowID(object, 5, 2))
		require.Contains(t, rows, identity.RowID(object, 6, 0))

		letters := make(map[topics.Reason][]topics.DeadLetterRecord)
		for _, record := range k.read(k.names.DeadLetter, 5) {
			letter, err := topics.DecodeDeadLetter(record)
			require.NoError(t, err)
			require.Equal(t, "enricher", letter.Stage)
			require.Equal(t, k.names.Raw, letter.Topic)
			letters[letter.Reason] = append(letters[letter.Reason], letter)
		}
		require.Len(t, letters[topics.ReasonMalformedRecord], 2)
		require.Len(t, letters[topics.ReasonUnknownSource], 1)
		require.Equal(t, eventLine, string(letters[topics.ReasonUnknownSource][0].Bytes))
		require.Equal(t, "not JSON", string(letters[topics.Reason(audit.NotJSON)][0].Bytes))
		require.Equal(t, int64(2), letters[topics.Reason(audit.NotJSON)][0].Line)
		require.Equal(t, 1, letters[topics.Reason(audit.NotAuditEvent)][0].Event)

		require.ElementsMatch(t, []string{
			"acme/prod deadletter not-json rows 0 [[2 2]]",
			"acme/prod skip blank rows 0 [[3 3]]",
			"/elsewhere deadletter unknown-source rows 0 [[4 4]]",
			"acme/prod deadletter not-audit-event rows 2 [[5 5]]",
		}, k.ledger(4))

		stop()
		got := values(t, registry)
		for name, want := range map[string]float64{
			"auditstream_enricher_lines_total":                         8,
			"auditstream_enricher_rows_total":                          4,
			"auditstream_enricher_consumed_records_total":              8,
			"auditstream_enricher_dead_letters_total/malformed-record": 2,
			"auditstream_enricher_dead_letters_total/unknown-source":   1,
			"auditstream_enricher_dead_letters_total/not-json":         1,
			"auditstream_enricher_dead_letters_total/not-audit-event":  1,
			"auditstream_enricher_dead_letters_total/line-too-long":    0,
			"auditstream_enricher_skips_total/blank":                   1,
			"auditstream_enricher_skips_total/control-message":         0,
			"auditstream_enricher_transactions_total/aborted":          0,
		} {
			value, there := got[name]
			require.True(t, there, name)
			require.InDelta(t, want, value, 0, name)
		}
	})
}

// Two instances, one of which comes and goes: every row once.
func TestInstancesShareTheWork(t *testing.T) {
	t.Parallel()
	eachKafka(t, func(t *testing.T, k *broker) {
		const lines = 20_000
		k.fillGenerated(t, lines)
		k.start(prometheus.NewRegistry())
		opts := k.options(nil)
		opts.Kafka.Instance = "two"
		opts.Enricher.RecordsPerTransaction = 500
		second, err := enricher.New(opts)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, second.Run(ctx))
		ids := make(map[string]int)
		for _, record := range k.read(k.names.Normalized, lines) {
			var row event.Row
			require.NoError(t, topics.DecodeNormalized(record.Value, &row))
			ids[strings.Clone(row.ID)]++
		}
		require.Len(t, ids, lines)
	})
}

func TestNewChecks(t *testing.T) {
	t.Parallel()
	opts := enricher.Options{Kafka: config.Kafka{Brokers: []string{"x:1"}, Group: "g", Instance: "i"}, Topics: topics.NewNames(""), LineLimit: 1}
	_, err := enricher.New(opts)
	require.NoError(t, err)
	for name, spoil := range map[string]func(*enricher.Options){
		"brokers": func(o *enricher.Options) { o.Kafka.Brokers = nil },
		"topics":  func(o *enricher.Options) { o.Topics = topics.Names{} },
		"limit":   func(o *enricher.Options) { o.LineLimit = 0 },
		"timeout": func(o *enricher.Options) { o.Kafka.TransactionTimeout = time.Minute },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := opts
			spoil(&opts)
			_, err := enricher.New(opts)
			require.Error(t, err)
		})
	}
}
