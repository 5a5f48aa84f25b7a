package kafka

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"
)

// clientMetrics gives every client that is made with the same options metrics
// of its own: kprom's hold one client, and a new session's client comes while
// the last words of the one before it are still being counted.
type clientMetrics struct {
	registry *clientRegisterer
	current  atomic.Pointer[kprom.Metrics]

	mu  sync.Mutex
	all map[*kgo.Client]*kprom.Metrics
}

func newClientMetrics(registry prometheus.Registerer, clientID string) *clientMetrics {
	return &clientMetrics{
		registry: newClientRegisterer(registry, clientID),
		all:      make(map[*kgo.Client]*kprom.Metrics),
	}
}

// The methods are franz-go's hooks.

func (m *clientMetrics) OnNewClient(client *kgo.Client) {
	fresh := kprom.NewMetrics("auditstream_kafka", kprom.Registerer(m.registry))
	fresh.OnNewClient(client)
	m.mu.Lock()
	m.all[client] = fresh
	m.mu.Unlock()
	m.current.Store(fresh)
}

func (m *clientMetrics) OnClientClosed(client *kgo.Client) {
	m.mu.Lock()
	old := m.all[client]
	delete(m.all, client)
	m.mu.Unlock()
	if old != nil {
		old.OnClientClosed(client)
	}
}

func (m *clientMetrics) OnBrokerConnect(meta kgo.BrokerMetadata, took time.Duration, conn net.Conn, err error) {
	m.current.Load().OnBrokerConnect(meta, took, conn, err)
}

func (m *clientMetrics) OnBrokerDisconnect(meta kgo.BrokerMetadata, conn net.Conn) {
	m.current.Load().OnBrokerDisconnect(meta, conn)
}

func (m *clientMetrics) OnBrokerWrite(meta kgo.BrokerMetadata, key int16, n int, wait, took time.Duration, err error) {
	m.current.Load().OnBrokerWrite(meta, key, n, wait, took, err)
}

func (m *clientMetrics) OnBrokerRead(meta kgo.BrokerMetadata, key int16, n int, wait, took time.Duration, err error) {
	m.current.Load().OnBrokerRead(meta, key, n, wait, took, err)
}

func (m *clientMetrics) OnBrokerE2E(meta kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	m.current.Load().OnBrokerE2E(meta, key, e2e)
}

func (m *clientMetrics) OnBrokerThrottle(meta kgo.BrokerMetadata, interval time.Duration, after bool) {
	m.current.Load().OnBrokerThrottle(meta, interval, after)
}

func (m *clientMetrics) OnProduceBatchWritten(meta kgo.BrokerMetadata, topic string, partition int32, batch kgo.ProduceBatchMetrics) {
	m.current.Load().OnProduceBatchWritten(meta, topic, partition, batch)
}

func (m *clientMetrics) OnFetchBatchRead(meta kgo.BrokerMetadata, topic string, partition int32, batch kgo.FetchBatchMetrics) {
	m.current.Load().OnFetchBatchRead(meta, topic, partition, batch)
}
