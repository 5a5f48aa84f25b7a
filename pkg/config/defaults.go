package config

import "time"

// What the protocol and Kafka allow at most.
const (
	// MaxTransactionTimeout bounds how long a dead instance holds up readers.
	MaxTransactionTimeout = 30 * time.Second
	// MaxTTLDays is as far as a DateTime of now plus the TTL doesn't overflow.
	MaxTTLDays = 18250
	// MaxLineLimit keeps a normalized record, up to four times its line, within
	// what Kafka's 32-bit sizes hold.
	MaxLineLimit Size = 256 << 20
	// MaxBatchRows and MaxBatchSize: a batch that was begun is read again as it
	// was by whoever owns its partition next, so every owner must be able to hold it.
	MaxBatchRows      = 1_000_000
	MaxBatchSize Size = 1 << 30
)

// Default is the configuration without a file, for one laptop.
func Default() Config {
	const day = 24 * time.Hour
	return Config{
		Kafka: Kafka{
			ClientID:           "auditstream",
			Group:              "auditstream",
			TransactionTimeout: MaxTransactionTimeout,
			SessionTimeout:     15 * time.Second,
		},
		Topics: Topics{
			ReplicationFactor: -1,
			LineLimit:         16 << 20,
			Objects:           Topic{Partitions: 4, Retention: 7 * day},
			Raw:               Topic{Partitions: 4, Retention: 7 * day},
			Normalized:        Topic{Partitions: 4, Retention: 7 * day},
			DeadLetter:        Topic{Partitions: 2, Retention: 30 * day},
			Ledger:            Topic{Partitions: 2, Retention: 30 * day},
		},
		Fetcher: Fetcher{
			SliceSize:             32 << 20,
			ObjectsPerTransaction: 200,
			Concurrency:           16,
			OpenObjects:           16,
			DedupeHorizon:         7 * day,
			DedupeObjects:         1_000_000,
			MaxObjectSize:         1 << 40,
			MaxExpansion:          1000,
			Attempts:              10,
			Backoff:               time.Second,
			StallTimeout:          10 * time.Second,
		},
		Enricher: Enricher{
			RecordsPerTransaction: 10_000,
			GeoIP:                 GeoIP{CheckInterval: time.Minute},
		},
		Sink: Sink{
			BatchRows:     50_000,
			BatchSize:     64 << 20,
			BatchAge:      2 * time.Second,
			Inserts:       4,
			Memory:        512 << 20,
			InsertTimeout: 2 * time.Minute,
			Backoff:       500 * time.Millisecond,
		},
		ClickHouse: ClickHouse{
			Database:     "default",
			Table:        "kubernetes_audit_logs",
			ObjectsTable: "auditstream_objects",
			View:         "audit_events",
			Username:     "default",
			Compression:  "lz4",
			DialTimeout:  10 * time.Second,
		},
		Admin: Admin{Address: "127.0.0.1:19090"},
		Log:   Log{Level: "info", Format: "text"},
		Embedded: Embedded{
			Directory:             ".auditstream",
			KafkaAddress:          "127.0.0.1:19092",
			S3Address:             "127.0.0.1:19000",
			ClickHouseTCPAddress:  "127.0.0.1:19100",
			ClickHouseHTTPAddress: "127.0.0.1:18123",
		},
	}
}

// DefaultSource is a source of which only id and bucket are given.
func DefaultSource() Source {
	return Source{
		Listing: Listing{Enabled: true, Interval: 10 * time.Second},
		Queue: Queue{
			Identity:          IdentitySource,
			Events:            []string{"ObjectCreated:*"},
			WaitTime:          20 * time.Second,
			VisibilityTimeout: time.Minute,
			Concurrency:       4,
		},
	}
}

// defaultSourceFor is what a source begins with in the file: who is told of
// objects by a queue does not list too, unless listing.enabled says so.
func defaultSourceFor(raw any) Source {
	source := DefaultSource()
	if keys, ok := raw.(map[string]any); ok {
		if queue, ok := keys["queue"].(map[string]any); ok && queue["url"] != nil && queue["url"] != "" {
			source.Listing = Listing{Interval: time.Hour}
		}
	}
	return source
}
