package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kslog"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/failpoint"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/topics"
)

const (
	mebibyte = 1 << 20
	// maxRequest is the most that franz-go sends or reads at once.
	maxRequest = 1 << 30

	defaultSessionTimeout   = 15 * time.Second
	defaultRebalanceTimeout = 60 * time.Second
	// shortestRebalanceTimeout has room for the sink's insert under way and the
	// commit after it.
	shortestRebalanceTimeout = 20 * time.Second
)

// Options are the options every client shares: brokers, client id, TLS, SASL,
// logs, metrics, durability of what is produced, sizes.
//
// A client made with them never gives a record up because brokers are away: it
// tries again until its context ends. Metrics are registered when a client is
// made and taken back when it is closed. Clients that live at the same time
// take options of their own, so that metrics tell them apart.
func Options(cfg config.Kafka, log *slog.Logger, registry prometheus.Registerer) ([]kgo.Opt, error) {
	if len(cfg.Brokers) == 0 {
		return nil, errors.New("kafka.brokers: no broker is named")
	}
	clientID := cfg.ClientID
	if clientID == "" {
		clientID = "auditstream"
	}
	session := cfg.SessionTimeout
	if session <= 0 {
		session = defaultSessionTimeout
	}
	// Rebalances wait for transactions to end, and for no longer than they may
	// take: a member that is gone without the coordinator's knowledge holds the
	// others up for this long on some brokers.
	rebalance := 2 * cfg.TransactionTimeout
	if rebalance <= 0 {
		rebalance = defaultRebalanceTimeout
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID(clientID),
		// It says at info what it does for every transaction.
		kgo.WithLogger(kslog.New(telemetry.Quiet(log, slog.LevelInfo).With("component", "kafka"))),

		// Durability: every in-sync replica has a record before it counts, and the
		// broker drops what a retry sends twice (idempotence is franz-go's default).
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordRetries(math.MaxInt),
		kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()),
		// A transaction is flushed as a whole: waiting only delays its first batches.
		kgo.ProducerLinger(time.Millisecond),
		kgo.MaxBufferedRecords(100_000),
		kgo.MaxBufferedBytes(256 * mebibyte),

		// A missing topic is made by `topics apply`, or seen again soon.
		kgo.MetadataMinAge(500 * time.Millisecond),
		kgo.MetadataMaxAge(time.Minute),

		kgo.FetchMaxBytes(64 * mebibyte),
		kgo.FetchMaxPartitionBytes(8 * mebibyte),
		kgo.FetchMaxWait(500 * time.Millisecond),
		kgo.BrokerMaxReadBytes(maxRequest),
		kgo.BrokerMaxWriteBytes(maxRequest),

		kgo.SessionTimeout(session),
		kgo.HeartbeatInterval(session / 5),
		kgo.RebalanceTimeout(max(rebalance, shortestRebalanceTimeout)),
	}
	if cfg.TLS.Enabled {
		tlsConfig, err := newTLS(cfg.TLS)
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(tlsConfig))
	}
	mechanism, err := newMechanism(cfg.SASL)
	if err != nil {
		return nil, err
	}
	if mechanism != nil {
		opts = append(opts, kgo.SASL(mechanism))
	}
	opts = append(opts, failpoint.Kafka()...)
	if registry != nil {
		opts = append(opts, kgo.WithHooks(newClientMetrics(registry, clientID)))
	}
	return opts, nil
}

// Connect makes a client that needs no options of its own, and gives those that
// every client shares, for further ones. It talks to no broker.
func Connect(cfg config.Kafka, log *slog.Logger) (*kgo.Client, []kgo.Opt, error) {
	options, err := Options(cfg, log, nil)
	if err != nil {
		return nil, nil, err
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	return client, options, nil
}

// RecordSizes lets records as large as the topics accept for lines of up to
// lineLimit bytes be produced, and batches be as large but no larger.
func RecordSizes(names topics.Names, lineLimit int64) []kgo.Opt {
	limits := map[string]int32{
		names.Objects:    clamp(topics.RecordOverhead),
		names.Raw:        clamp(topics.MaxMessageBytes(lineLimit)),
		names.Normalized: clamp(topics.MaxNormalizedBytes(lineLimit)),
		names.DeadLetter: clamp(topics.MaxMessageBytes(lineLimit)),
		names.Ledger:     clamp(topics.RecordOverhead),
	}
	// One record must fit beside what is buffered already.
	buffered := max(256*mebibyte, 2*int(topics.MaxNormalizedBytes(lineLimit)))
	return []kgo.Opt{
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 {
			if limit, known := limits[topic]; known {
				return limit
			}
			return mebibyte
		}),
		kgo.MaxBufferedBytes(buffered),
	}
}

func clamp(size int64) int32 {
	return int32(min(size, maxRequest)) //nolint:gosec // bounded just so
}

func newTLS(cfg config.TLS) (*tls.Config, error) {
	result := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         cfg.ServerName,
		InsecureSkipVerify: cfg.InsecureSkipVerify, //nolint:gosec // the user's explicit wish
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.caFile: %w", err)
		}
		result.RootCAs = x509.NewCertPool()
		if !result.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka.tls.caFile: no certificate in %s", cfg.CAFile)
		}
	}
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return nil, errors.New("kafka.tls: certFile and keyFile go together")
	}
	if cfg.CertFile == "" {
		return result, nil
	}
	if _, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile); err != nil {
		return nil, fmt.Errorf("kafka.tls.certFile: %w", err)
	}
	// Read for every handshake, so that a renewed certificate is used without a
	// restart.
	result.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		certificate, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.certFile: %w", err)
		}
		return &certificate, nil
	}
	return result, nil
}
