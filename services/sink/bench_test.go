package sink

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

// countedRows counts what an insert has acknowledged.
type countedRows struct {
	Table
	rows chan int
}

func (c *countedRows) Insert(ctx context.Context, token string, rows []*kgo.Record) (clickhouse.Inserted, error) {
	inserted, err := c.Table.Insert(ctx, token, rows)
	if err == nil {
		c.rows <- inserted.Rows
	}
	return inserted, err
}

// BenchmarkSink is the stage from end to end: records of about 2 KB in Kafka
// to rows in the table. Its ceiling is BenchmarkInsertPrebuilt in pkg/clickhouse.
func BenchmarkSink(b *testing.B) {
	const partitions, perPartition = 4, 50_000
	brokers, server := servers.Kafka(b), servers.ClickHouse(b)
	name := servers.Name(b, "sinkbench")
	names := topics.NewNames(name + ".")
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedBytes(256<<20))
	require.NoError(b, err)
	defer client.Close()
	createTopic(b, client, names.Normalized, partitions)
	fixture := &bench{}
	line := []byte(`{"kind":"Event","requestObject":[` + strings.Repeat(`{"name":"container","image":"registry.example/app:1.2.3"},`, 28) + `]}`)
	number := 0
	for partition := range int32(partitions) {
		for range perPartition {
			number++
			row := fixture.row(number)
			fill(&row, number)
			row.RawLog = line
			client.Produce(b.Context(), &kgo.Record{Topic: names.Normalized, Partition: partition, Value: topics.AppendNormalized(nil, &row)}, nil)
		}
	}
	require.NoError(b, client.Flush(b.Context()))
	table := config.ClickHouse{Addresses: []string{server.Address}, Database: server.Database, Table: "bench", Username: server.Username, Password: config.Secret(server.Password), CreateTable: true}
	for b.Loop() {
		service, err := New(Options{
			Config:     config.Sink{BatchRows: 50_000, BatchSize: 128 << 20, BatchAge: time.Second, Inserts: 2, Memory: 1 << 30, InsertTimeout: time.Minute, Backoff: time.Second},
			ClickHouse: table, Topic: names.Normalized, Rows: Events, Group: servers.Name(b, "group"), AcceptGap: true, Client: []kgo.Opt{kgo.SeedBrokers(brokers...)},
			Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Health: newRecorder(),
		})
		require.NoError(b, err)
		counted := &countedRows{service.shards[0].table, make(chan int, 1000)}
		service.shards[0].table = counted
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- service.Run(ctx) }()
		for rows := 0; rows < partitions*perPartition; {
			rows += <-counted.rows
		}
		cancel()
		require.NoError(b, <-done)
	}
	b.ReportMetric(float64(partitions*perPartition*b.N)/b.Elapsed().Seconds(), "rows/s")
}

func fill(row *event.Row, number int) {
	row.EventName, row.Verb, row.Kind, row.APIVersion = "get pods", "get", "Event", "audit.k8s.io/v1"
	row.AuditID, row.EventID = row.ID, row.ID
	row.UserUsername = "system:serviceaccount:team:worker-" + row.ID[len(row.ID)-2:]
	row.Actor = event.Map{{Key: "username", Value: row.UserUsername}, {Key: "type", Value: "serviceaccount"}, {Key: "groups", Value: "system:serviceaccounts,system:authenticated"}}
	row.Tags = event.Map{{Key: "cluster", Value: "production"}}
	row.UserGroups, row.SourceIPs = []string{"system:serviceaccounts", "system:authenticated"}, []string{"10.0.0.1"}
	row.Resources = []string{"api/v1/namespaces/web/pods/x"}
	row.ReceivedAt += uint32(number / 1000) //nolint:gosec // small
}

func createTopic(b *testing.B, client *kgo.Client, topic string, partitions int32) {
	b.Helper()
	_, err := kadm.NewClient(client).CreateTopic(b.Context(), partitions, 1, nil, topic)
	require.NoError(b, err)
}
