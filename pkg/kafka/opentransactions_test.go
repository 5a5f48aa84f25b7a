package kafka

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditstream/auditstream/tests/servers"
)

func TestOpenTransactions(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, brokers []string) {
		name := servers.Name(t, "open")
		client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID(name+"-enricher-one"), kgo.DefaultProduceTopic(name))
		require.NoError(t, err)
		defer client.Close()
		admin := kadm.NewClient(client)
		_, err = admin.CreateTopic(t.Context(), 1, 1, nil, name)
		require.NoError(t, err)

		begun := time.Now()
		require.NoError(t, client.BeginTransaction())
		require.NoError(t, client.ProduceSync(t.Context(), kgo.StringRecord("x")).FirstErr())
		open, err := OpenTransactions(t.Context(), admin, name+"-fetcher", name+"-enricher")
		require.NoError(t, err)
		require.Len(t, open, 1)
		require.Equal(t, name+"-enricher-one", open[0].ID)
		require.Equal(t, "Ongoing", open[0].State)
		require.WithinDuration(t, begun, open[0].Since, 30*time.Second)
		open, err = OpenTransactions(t.Context(), admin, name+"-fetcher", name)
		require.NoError(t, err)
		require.Len(t, open, 1, "a group whose name begins like another's instances")

		ctx, cancel := context.WithCancel(t.Context())
		gauge := newOpenTransactionGauge("enricher")
		done := make(chan struct{})
		go func() { defer close(done); watchOpenTransactions(ctx, client, name+"-enricher", gauge) }()
		require.Eventually(t, func() bool { return value(t, gauge) > 0 }, 10*time.Second, 10*time.Millisecond)
		cancel()
		<-done

		require.NoError(t, client.EndTransaction(t.Context(), kgo.TryCommit))
		require.Eventually(t, func() bool {
			open, err := OpenTransactions(t.Context(), admin, name+"-enricher")
			return err == nil && len(open) == 0
		}, 10*time.Second, 10*time.Millisecond)
	})
}

// Where nobody answers, no age is better than a wrong one.
func TestOpenTransactionsUnknown(t *testing.T) {
	broker := servers.EmbeddedKafka(t, "")
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addresses()...))
	require.NoError(t, err)
	defer client.Close()
	broker.Cluster().ControlKey(int16(kmsg.ListTransactions), func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.Cluster().KeepControl()
		return nil, errors.New("not for you"), true
	})
	ctx, cancel := context.WithCancel(t.Context())
	gauge := newOpenTransactionGauge("enricher")
	done := make(chan struct{})
	go func() { defer close(done); watchOpenTransactions(ctx, client, "g", gauge) }()
	require.Eventually(t, func() bool { return math.IsNaN(value(t, gauge)) }, 30*time.Second, 10*time.Millisecond)
	cancel()
	<-done
}

func value(t *testing.T, gauge prometheus.Gauge) float64 {
	t.Helper()
	var written dto.Metric
	require.NoError(t, gauge.Write(&written))
	return written.GetGauge().GetValue()
}
