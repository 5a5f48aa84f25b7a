// Package config is the whole configuration: one YAML file, environment
// overrides, defaults that suit one laptop. Load refuses unknown keys and
// reports every problem at once by the key the user typed, before anything
// starts. Each service gets its own struct from here and nothing else.
package config

import "time"

// Config is the file, a struct per concern.
type Config struct {
	Kafka      Kafka      `koanf:"kafka"`
	Topics     Topics     `koanf:"topics"`
	S3         S3         `koanf:"s3"`
	Sources    []Source   `koanf:"sources"`
	Fetcher    Fetcher    `koanf:"fetcher"`
	Enricher   Enricher   `koanf:"enricher"`
	Sink       Sink       `koanf:"sink"`
	ClickHouse ClickHouse `koanf:"clickhouse"`
	Admin      Admin      `koanf:"admin"`
	Log        Log        `koanf:"log"`
	Embedded   Embedded   `koanf:"embedded"`
}

// Size is a number of bytes, in the file with its unit: 16MiB, 64KB, 1GiB.
type Size int64

// Secret is a value that is never printed: String, GoString, the JSON, YAML
// and slog forms of a set one are "[set]", of an empty one "".
type Secret string

// Kafka is how to reach the brokers.
type Kafka struct {
	Brokers  []string `koanf:"brokers"`  // host:port; empty: the embedded broker (`up`)
	ClientID string   `koanf:"clientID"` //
	// Group is the prefix of the consumer groups: <group>-fetcher, -enricher, -sink.
	Group string `koanf:"group"`
	// Instance tells the instances of one stage apart and survives a restart (a
	// StatefulSet's pod name, say). Empty: the host name.
	Instance string `koanf:"instance"`
	TLS      TLS    `koanf:"tls"`
	SASL     SASL   `koanf:"sasl"`
	// TransactionTimeout is after how long the broker aborts a transaction whose
	// instance has died; at most 30 s.
	TransactionTimeout time.Duration `koanf:"transactionTimeout"`
	SessionTimeout     time.Duration `koanf:"sessionTimeout"`
	// AcceptGap goes on where records are known to be missing (no committed
	// offsets although the output is not empty, an offset out of range), from the
	// earliest record there is. Without it the partition stops and says which range.
	AcceptGap bool `koanf:"acceptGap"`
}

// TLS of a connection. CertFile and KeyFile together are mutual TLS.
type TLS struct {
	Enabled            bool   `koanf:"enabled"`
	CAFile             string `koanf:"caFile"` // empty: the system's
	CertFile           string `koanf:"certFile"`
	KeyFile            string `koanf:"keyFile"`
	ServerName         string `koanf:"serverName"`
	InsecureSkipVerify bool   `koanf:"insecureSkipVerify"`
}

// SASL mechanisms: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, AWS_MSK_IAM.
type SASL struct {
	Mechanism    string `koanf:"mechanism"` // empty: none
	Username     string `koanf:"username"`
	Password     Secret `koanf:"password"`
	PasswordFile string `koanf:"passwordFile"`
	// OAUTHBEARER: a fixed token (or a file that something else keeps fresh), or
	// the client-credentials flow against tokenURL.
	Token            Secret   `koanf:"token"`
	TokenFile        string   `koanf:"tokenFile"`
	TokenURL         string   `koanf:"tokenURL"`
	ClientID         string   `koanf:"clientID"`
	ClientSecret     Secret   `koanf:"clientSecret"`
	ClientSecretFile string   `koanf:"clientSecretFile"`
	Scopes           []string `koanf:"scopes"`
	// AWS_MSK_IAM: the default credential chain, or a role.
	RoleARN string `koanf:"roleARN"`
	Region  string `koanf:"region"`
}

// Topics are names and settings; `auditstream topics apply` makes them so.
type Topics struct {
	Prefix            string `koanf:"prefix"`
	ReplicationFactor int16  `koanf:"replicationFactor"` // -1: the broker's default
	MinInSyncReplicas int    `koanf:"minInSyncReplicas"` // 0: the broker's default
	// LineLimit is the longest line that is carried; longer ones are dead letters.
	LineLimit  Size  `koanf:"lineLimit"`
	Objects    Topic `koanf:"objects"`
	Raw        Topic `koanf:"raw"`
	Normalized Topic `koanf:"normalized"`
	DeadLetter Topic `koanf:"deadletter"`
	Ledger     Topic `koanf:"ledger"`
}

// Topic is what differs from topic to topic.
type Topic struct {
	Partitions int32         `koanf:"partitions"`
	Retention  time.Duration `koanf:"retention"`
}

// S3 is an object store and how to reach it.
type S3 struct {
	// Endpoint of a store that is not AWS (MinIO, Ceph, R2), as URL. Empty: AWS;
	// in `up` without sources, or with embedded.s3, the embedded one.
	Endpoint string `koanf:"endpoint"`
	// Alias names the endpoint in object ids. It must not change when the same
	// store gets another address. Empty: "aws" for AWS, else the endpoint's host.
	Alias               string `koanf:"alias"`
	Region              string `koanf:"region"`
	PathStyle           bool   `koanf:"pathStyle"`
	AccessKeyID         string `koanf:"accessKeyID"` // empty: the default credential chain
	SecretAccessKey     Secret `koanf:"secretAccessKey"`
	SecretAccessKeyFile string `koanf:"secretAccessKeyFile"`
	SessionToken        Secret `koanf:"sessionToken"`
	CAFile              string `koanf:"caFile"`
	// STSEndpoint gives out roles where that is not AWS (MinIO), as URL.
	STSEndpoint string `koanf:"stsEndpoint"`
	// Role that the process takes on for all it does with S3 and queues. A
	// source's own role is taken on from there.
	Role Role `koanf:"role"`
}

// Role is an identity to take on. Without ARN there is none.
type Role struct {
	ARN         string `koanf:"arn"`
	ExternalID  string `koanf:"externalID"`
	SessionName string `koanf:"sessionName"` // empty: auditstream
	// WebIdentityTokenFile holds a token to take the role with, in place of
	// credentials (a Kubernetes service account's).
	WebIdentityTokenFile string `koanf:"webIdentityTokenFile"`
}

// Source is one origin of audit logs: a bucket and prefix of one cluster.
type Source struct {
	ID        string `koanf:"id"`
	Workspace string `koanf:"workspace"`
	// TTLDays after which rows are removed; 0 keeps for ever; at most 18250.
	TTLDays uint32 `koanf:"ttlDays"`
	Bucket  string `koanf:"bucket"`
	// Which of the bucket's objects are the source's: those whose keys pass all
	// that is set. Glob is about the whole key; see package glob.
	Prefix string `koanf:"prefix"`
	Suffix string `koanf:"suffix"`
	Glob   string `koanf:"glob"`
	// Region of the bucket; empty: found by itself.
	Region        string `koanf:"region"`
	RequesterPays bool   `koanf:"requesterPays"`
	// Role to read the bucket with, and the queue.
	Role Role              `koanf:"role"`
	Tags map[string]string `koanf:"tags"`
	// APIServerAddress fills the dst columns.
	APIServerAddress string `koanf:"apiServerAddress"`
	// TrustedProxies are networks (CIDR) whose addresses are not the client.
	TrustedProxies []string `koanf:"trustedProxies"`
	// EventKeys are further keys under which a shipper nests the event.
	EventKeys []string `koanf:"eventKeys"`
	Listing   Listing  `koanf:"listing"`
	Queue     Queue    `koanf:"queue"`
}

// Listing is intake by listing the source's bucket and prefix.
type Listing struct {
	Enabled  bool          `koanf:"enabled"`
	Interval time.Duration `koanf:"interval"`
}

// Queue is intake by notifications in an SQS queue. Several sources may name
// the same queue, with the same settings.
type Queue struct {
	URL      string `koanf:"url"`      // empty: none
	Region   string `koanf:"region"`   // empty: the URL's, else s3.region
	Endpoint string `koanf:"endpoint"` // of a service that is not AWS, as URL
	// Identity to receive with: the source's role, or the process without it.
	Identity string `koanf:"identity"`
	// Events are the names of events to follow; '*' at the end is any rest.
	Events []string `koanf:"events"`
	// WaitTime is how long an empty queue is asked before it answers.
	WaitTime time.Duration `koanf:"waitTime"`
	// VisibilityTimeout after which a message that was not done with comes again.
	// It has to last for some Kafka produces, however large the objects are.
	VisibilityTimeout time.Duration `koanf:"visibilityTimeout"`
	// Concurrency is how many requests of ten messages are under way at once.
	Concurrency int `koanf:"concurrency"`
}

// Identities of a queue.
const (
	IdentitySource  = "source"
	IdentityProcess = "process"
)

// Fetcher is the stage objects → raw.
type Fetcher struct {
	// SliceSize bounds the decompressed bytes that one transaction produces of
	// large objects, and four times that of small ones. Three quarters of it are read ahead.
	SliceSize Size `koanf:"sliceSize"`
	// ObjectsPerTransaction bounds how many small objects share one.
	ObjectsPerTransaction int `koanf:"objectsPerTransaction"`
	// Concurrency is how many objects are read at once.
	Concurrency int `koanf:"concurrency"`
	// OpenObjects is how many large objects are kept open between slices.
	OpenObjects int `koanf:"openObjects"`
	// DedupeHorizon is how long an announcement is remembered; at most the
	// retention of the topic objects.
	DedupeHorizon time.Duration `koanf:"dedupeHorizon"`
	// DedupeObjects bounds the memory of deduplication, about 100 bytes each.
	DedupeObjects int `koanf:"dedupeObjects"`
	// MaxObjectSize ends an object that decompresses to more, and MaxExpansion
	// one that decompresses to more than so many times its stored size.
	MaxObjectSize Size `koanf:"maxObjectSize"`
	MaxExpansion  int  `koanf:"maxExpansion"`
	// Attempts on an object that fails before it becomes a dead letter.
	Attempts int           `koanf:"attempts"`
	Backoff  time.Duration `koanf:"backoff"` // between attempts, growing, with jitter
	// StallTimeout ends a read that gives no byte for so long.
	StallTimeout time.Duration `koanf:"stallTimeout"`
}

// Enricher is the stage raw → normalized.
type Enricher struct {
	// RecordsPerTransaction bounds the raw lines of one transaction.
	RecordsPerTransaction int `koanf:"recordsPerTransaction"`
	// Concurrency is how many lines are normalized at once; 0: one for each core.
	Concurrency int   `koanf:"concurrency"`
	GeoIP       GeoIP `koanf:"geoip"`
}

// GeoIP names MaxMind database files; their kind is read from their metadata.
type GeoIP struct {
	Directory string   `koanf:"directory"` // every *.mmdb in it
	Files     []string `koanf:"files"`
	// CheckInterval is how often the files are looked at for a replacement.
	CheckInterval time.Duration `koanf:"checkInterval"`
}

// Sink is the stage normalized → ClickHouse.
type Sink struct {
	// A batch closes on whichever comes first.
	BatchRows int           `koanf:"batchRows"`
	BatchSize Size          `koanf:"batchSize"`
	BatchAge  time.Duration `koanf:"batchAge"`
	// Inserts is how many inserts are under way at once, into each shard.
	Inserts int `koanf:"inserts"`
	// Memory bounds what is buffered over all partitions; beyond it partitions are
	// paused. Each shard has an equal share of it.
	Memory Size `koanf:"memory"`
	// InsertTimeout after which an insert's outcome counts as unknown.
	InsertTimeout time.Duration `koanf:"insertTimeout"`
	Backoff       time.Duration `koanf:"backoff"`
}

// ClickHouse is how to reach the table.
type ClickHouse struct {
	Addresses []string `koanf:"addresses"` // host:port of the native protocol; neither they nor shards: the embedded engine (`up`)
	// Shards are several servers, or sets of replicas, in place of Addresses. Each
	// partition's rows go to one of them: their number and order tell which.
	Shards   []Shard `koanf:"shards"`
	Database string  `koanf:"database"`
	Table    string  `koanf:"table"`
	// ObjectsTable is where the ledger of objects goes.
	ObjectsTable string `koanf:"objectsTable"`
	// View is what people read: each row of the table once. Empty: none.
	View         string        `koanf:"view"`
	Username     string        `koanf:"username"`
	Password     Secret        `koanf:"password"`
	PasswordFile string        `koanf:"passwordFile"`
	TLS          TLS           `koanf:"tls"`
	Compression  string        `koanf:"compression"` // lz4, zstd, none
	DialTimeout  time.Duration `koanf:"dialTimeout"`
	// CreateTable lets the sink create the table when it isn't there.
	CreateTable bool `koanf:"createTable"`
	// Cluster adds ON CLUSTER and a Replicated engine to the DDL.
	Cluster string `koanf:"cluster"`
}

// Shard is one server that holds a part of the table, or its replicas.
type Shard struct {
	Addresses []string `koanf:"addresses"` // host:port of the native protocol
}

// PerShard is one configuration for each shard, with that shard's addresses
// alone; none when no server is named.
func (h ClickHouse) PerShard() []ClickHouse {
	shards := h.Shards
	if len(shards) == 0 && len(h.Addresses) > 0 {
		shards = []Shard{{Addresses: h.Addresses}}
	}
	each := make([]ClickHouse, 0, len(shards))
	for _, shard := range shards {
		one := h
		one.Addresses, one.Shards = shard.Addresses, nil
		each = append(each, one)
	}
	return each
}

// Named reports whether a server is named at all.
func (h ClickHouse) Named() bool { return len(h.Addresses) > 0 || len(h.Shards) > 0 }

// Admin is the address of /metrics, /healthz, /readyz and /debug/pprof.
type Admin struct {
	Address string `koanf:"address"` // empty: none
}

// Log of the process.
type Log struct {
	Level  string `koanf:"level"`  // debug, info, warn, error
	Format string `koanf:"format"` // text, json
}

// Embedded servers of `up` and the demo.
type Embedded struct {
	Directory    string `koanf:"directory"`
	KafkaAddress string `koanf:"kafkaAddress"`
	// S3 starts the S3 server of `up` although sources are configured, and makes
	// their buckets in it.
	S3                    bool   `koanf:"s3"`
	S3Address             string `koanf:"s3Address"`
	ClickHouseTCPAddress  string `koanf:"clickhouseTCPAddress"`
	ClickHouseHTTPAddress string `koanf:"clickhouseHTTPAddress"`
}

// TakeFreePorts lets the servers listen where this machine has a port to spare.
func (e *Embedded) TakeFreePorts() {
	const free = "127.0.0.1:0"
	e.KafkaAddress, e.S3Address, e.ClickHouseTCPAddress, e.ClickHouseHTTPAddress = free, free, free, free
}
