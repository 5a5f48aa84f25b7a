package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/tests/golden"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auditstream.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestDefaultsAreValid(t *testing.T) {
	cfg, err := config.Load("", nil)
	require.NoError(t, err)
	require.NoError(t, cfg.Validate(config.CommandUp))
	require.NotEmpty(t, cfg.Kafka.Instance)

	want := config.Default()
	want.Kafka.Instance = cfg.Kafka.Instance
	require.Empty(t, cmp.Diff(want, cfg))
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := config.Load("testdata/problems.yaml", []string{
		"AUDITSTREAM_ENRICHER_CONCURENCY=4",
		"AUDITSTREAM_ENRICHER_RECORDS_PER_TRANSACTION=lots",
		"AUDITSTREAM_FETCHER_BACKOFF=1w",
		"AUDITSTREAM_FETCHER_ATTEMPTS=0",
		"AUDITSTREAM_KAFKA_CLIENTID=a",
		"AUDITSTREAM_KAFKA_CLIENT_ID=b",
		"AUDITSTREAM_SOURCES_0_ID=x",
		"AUDITSTREAM_SOMETHING_ELSE_ALTOGETHER=x",
	}, config.CommandFetcher, config.CommandSink)
	var problems *config.ProblemsError
	require.ErrorAs(t, err, &problems)
	golden.Equal(t, "testdata/problems.golden", problems.Error()+"\n")
	require.NotContains(t, err.Error(), "hunter2")
}

func TestWhatCommandsNeed(t *testing.T) {
	for command, want := range map[config.Command][]string{
		config.CommandFetcher:  {"kafka.brokers", "sources"},
		config.CommandEnricher: {"kafka.brokers", "sources"},
		config.CommandSink:     {"clickhouse.addresses", "kafka.brokers"},
		config.CommandTopics:   {"kafka.brokers"},
		config.CommandSchema:   {"clickhouse.addresses"},
		config.CommandUp:       nil,
	} {
		t.Run(string(command), func(t *testing.T) {
			_, err := config.Load("", nil, command)
			require.Equal(t, want, keys(err))
		})
	}
}

func keys(err error) []string {
	var problems *config.ProblemsError
	if !errors.As(err, &problems) {
		return nil
	}
	var all []string
	for _, problem := range problems.Problems {
		all = append(all, problem.Key)
	}
	return all
}

func TestUpRefusesConnectionSettingsWithoutAddress(t *testing.T) {
	_, err := config.Load("", []string{
		"AUDITSTREAM_CLICKHOUSE_PASSWORD=hunter2",
		"AUDITSTREAM_KAFKA_TLS_ENABLED=true",
	}, config.CommandUp)
	require.Equal(t, []string{"clickhouse.addresses", "kafka.brokers"}, keys(err))
}

// Two S3 servers can't both be meant.
func TestUpWithAnS3ServerOfItsOwn(t *testing.T) {
	const own = "embedded: {s3: true}\nsources: [{id: s, bucket: audit-logs}]\n"
	_, err := config.Load(write(t, own), nil, config.CommandUp)
	require.NoError(t, err)
	for _, other := range []string{"endpoint: 'http://minio:9000'", "region: eu-central-1", "role: {arn: 'arn:aws:iam::111122223333:role/a'}"} {
		_, err = config.Load(write(t, own+"s3: {"+other+"}"), nil, config.CommandUp)
		require.Equal(t, []string{"embedded.s3"}, keys(err), other)
	}
}

func TestShards(t *testing.T) {
	cfg, err := config.Load(write(t, "clickhouse: {username: u, shards: [{addresses: [a:1]}, {addresses: [b:1, b:2]}]}"), nil)
	require.NoError(t, err)
	each := cfg.ClickHouse.PerShard()
	require.Len(t, each, 2)
	require.Equal(t, []string{"b:1", "b:2"}, each[1].Addresses)
	require.Equal(t, "u", each[1].Username)
	require.Empty(t, each[1].Shards)
	require.True(t, cfg.ClickHouse.Named())
	require.Empty(t, config.ClickHouse{}.PerShard())
	require.Len(t, config.ClickHouse{Addresses: []string{"a:1", "a:2"}}.PerShard(), 1)

	for text, want := range map[string][]string{
		"clickhouse: {addresses: [a:1], shards: [{addresses: [b:1]}]}":                             {"clickhouse.shards"},
		"clickhouse: {shards: [{addresses: [a:1]}, {addresses: [b:1, a:1]}]}":                      {"clickhouse.shards[1].addresses[1]"},
		"clickhouse: {shards: [{addresses: [a:1]}, {addresses: []}]}":                              {"clickhouse.shards[1].addresses"},
		"clickhouse: {shards: [{addresses: [a]}, {adresses: [b:1]}]}":                              {"clickhouse.shards[0].addresses[0]", "clickhouse.shards[1].addresses", "clickhouse.shards[1].adresses"},
		"{sink: {memory: 100MiB}, clickhouse: {shards: [{addresses: [a:1]}, {addresses: [b:1]}]}}": {"sink.batchSize"},
	} {
		_, err := config.Load(write(t, text), nil)
		require.Equal(t, want, keys(err), text)
	}
	_, err = config.Load("", []string{"AUDITSTREAM_CLICKHOUSE_SHARDS=a:1"})
	require.ErrorContains(t, err, "set in the file only")
}

func TestEnvironmentOverridesFile(t *testing.T) {
	path := write(t, `
kafka:
  brokers: [file:9092]
  clientID: file
clickhouse:
sink: {batchRows: 10}
sources:
  - {id: one, bucket: logs-one}
  - {id: two, bucket: logs-two, listing: {enabled: false}, tags: {a.b: c}}
`)
	cfg, err := config.Load(path, []string{
		"AUDITSTREAM_KAFKA_BROKERS=a:9092, b:9092,",
		"AUDITSTREAM_CLICKHOUSE_ADDRESSES=ch:9000",
		"AUDITSTREAM_CLICKHOUSE_PASSWORD= with blanks ",
		"AUDITSTREAM_CLICKHOUSE_CREATETABLE=true",
		"AUDITSTREAM_EMBEDDED_CLICKHOUSE_TCP_ADDRESS=127.0.0.1:1",
		"AUDITSTREAM_TOPICS_RAW_PARTITIONS=12",
		"AUDITSTREAM_TOPICS_RAW_RETENTION=1d12h",
		"AUDITSTREAM_TOPICS_LINE_LIMIT=1.5MiB",
		"AUDITSTREAM_ADMIN_ADDRESS=",
		"AUDITSTREAM_SINK_BATCH_AGE=250ms",
		// Not keys of the file, and not to be refused.
		"AUDITSTREAM_TEST_KAFKA=x",
		"AUDITSTREAM_CONFIG=" + path,
		"AUDITSTREAM_PORT=tcp://10.0.0.1:9090",
		"AUDITSTREAM_SERVICE_HOST=10.0.0.1",
		"AUDITSTREAM_SINK_SERVICE_PORT_ADMIN=9090",
		"AUDITSTREAM_SINK_PORT_9090_TCP_ADDR=10.0.0.1",
		"PATH=/bin",
	}, config.CommandSink)
	require.NoError(t, err)
	require.Equal(t, []string{"a:9092", "b:9092"}, cfg.Kafka.Brokers)
	require.Equal(t, "file", cfg.Kafka.ClientID)
	require.Equal(t, []string{"ch:9000"}, cfg.ClickHouse.Addresses)
	require.Equal(t, " with blanks ", cfg.ClickHouse.Password.Reveal())
	require.True(t, cfg.ClickHouse.CreateTable)
	require.Equal(t, "127.0.0.1:1", cfg.Embedded.ClickHouseTCPAddress)
	require.Equal(t, int32(12), cfg.Topics.Raw.Partitions)
	require.Equal(t, 36*time.Hour, cfg.Topics.Raw.Retention)
	require.Equal(t, config.Size(3<<19), cfg.Topics.LineLimit)
	require.Empty(t, cfg.Admin.Address)
	require.Equal(t, 250*time.Millisecond, cfg.Sink.BatchAge)
	require.Equal(t, 10, cfg.Sink.BatchRows)
	require.Equal(t, config.Listing{Enabled: true, Interval: 10 * time.Second}, cfg.Sources[0].Listing)
	require.Equal(t, config.Listing{Enabled: false, Interval: 10 * time.Second}, cfg.Sources[1].Listing)
	require.Equal(t, map[string]string{"a.b": "c"}, cfg.Sources[1].Tags)
}

func TestS3FollowsItsEndpoint(t *testing.T) {
	cfg, err := config.Load(write(t, "s3: {endpoint: 'https://minio.example:9000'}"), nil)
	require.NoError(t, err)
	require.True(t, cfg.S3.PathStyle)

	cfg, err = config.Load(write(t, "s3: {endpoint: 'https://s3.example', pathStyle: false, alias: store, region: eu}"), nil)
	require.NoError(t, err)
	require.Equal(t, "store", cfg.S3.Alias)
	require.Equal(t, "eu", cfg.S3.Region)
	require.False(t, cfg.S3.PathStyle)
}

func TestSecretsFromFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("hunter2\n"), 0o600))
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, []byte(" \n"), 0o600))

	cfg, err := config.Load("", []string{
		"AUDITSTREAM_CLICKHOUSE_PASSWORD_FILE=" + secret,
		"AUDITSTREAM_S3_SECRETACCESSKEYFILE=" + secret,
		"AUDITSTREAM_S3_ACCESS_KEY_ID=key",
	})
	require.NoError(t, err)
	require.Equal(t, "hunter2", cfg.ClickHouse.Password.Reveal())
	require.Equal(t, "hunter2", cfg.S3.SecretAccessKey.Reveal())
	require.NoError(t, cfg.Validate(), "a configuration that was loaded is valid")

	_, err = config.Load("", []string{"AUDITSTREAM_CLICKHOUSE_PASSWORD_FILE=" + empty})
	require.ErrorContains(t, err, "clickhouse.passwordFile (AUDITSTREAM_CLICKHOUSE_PASSWORD_FILE): "+empty+" is empty")
	_, err = config.Load("", []string{"AUDITSTREAM_CLICKHOUSE_PASSWORD_FILE=" + t.TempDir()})
	require.ErrorContains(t, err, "not a regular file")
}

func TestContradictions(t *testing.T) {
	for name, one := range map[string]struct{ yaml, want string }{
		"token and file":        {"kafka: {sasl: {mechanism: OAUTHBEARER, token: a, tokenURL: 'https://x', clientID: a, clientSecret: b}}", "kafka.sasl.token: more than one"},
		"no token":              {"kafka: {sasl: {mechanism: OAUTHBEARER}}", "kafka.sasl.token: missing"},
		"secret without URL":    {"kafka: {sasl: {mechanism: OAUTHBEARER, token: a, clientID: b}}", "kafka.sasl.tokenURL: missing"},
		"user of another":       {"kafka: {sasl: {mechanism: AWS_MSK_IAM, username: a}}", "kafka.sasl.username: is set, but AWS_MSK_IAM doesn't use it"},
		"user without any":      {"kafka: {sasl: {username: a}}", "kafka.sasl.username: is set, but kafka.sasl.mechanism is not"},
		"plain without all":     {"kafka: {sasl: {mechanism: PLAIN}}", "kafka.sasl.password: missing"},
		"key without cert":      {"kafka: {tls: {enabled: true, keyFile: x}}", "kafka.tls.certFile: missing"},
		"overlapping sources":   {"sources: [{id: a, bucket: logs, prefix: x/}, {id: b, bucket: logs, prefix: x/y/}]", "sources[1].prefix: \"x/y/\" in bucket logs overlaps sources[0]"},
		"key without secret":    {"s3: {accessKeyID: a}", "s3.secretAccessKey: missing"},
		"horizon":               {"topics: {objects: {retention: 1d}}", "fetcher.dedupeHorizon: 7d is longer than topics.objects.retention, 1d"},
		"slice below the limit": {"fetcher: {sliceSize: 1MiB}", "fetcher.sliceSize: 1MiB is less than topics.lineLimit"},
		"two documents":         {"log: {level: info}\n---\nlog: {level: debug}", "more than one YAML document"},
		"doubled key":           {"log: {level: info}\nlog: {level: debug}", "already defined"},
		"not a mapping":         {"- a\n- b", "cannot unmarshal"},
		"not YAML":              {"kafka: [", "did not find expected"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load(write(t, one.yaml), nil)
			require.ErrorContains(t, err, one.want)
			require.IsType(t, &config.ProblemsError{}, err)
		})
	}
	_, err := config.Load(filepath.Join(t.TempDir(), "none.yaml"), nil)
	require.ErrorContains(t, err, "can't be read: no such file")
}

func TestPrintShowsNoSecrets(t *testing.T) {
	cfg, err := config.Load(write(t, `
kafka:
  brokers: [a:9093]
  sasl: {mechanism: PLAIN, username: u, password: hunter2}
clickhouse: {password: hunter2}
sources: [{id: a, bucket: logs, ttlDays: 30, tags: {team: security}}]
`), []string{"AUDITSTREAM_KAFKA_INSTANCE=one"})
	require.NoError(t, err)
	text, err := cfg.YAML()
	require.NoError(t, err)
	golden.Equal(t, "testdata/print.golden.yaml", string(text))
	require.NotContains(t, string(text), "hunter2")

	// What is printed is a configuration again.
	again, err := config.Load(write(t, strings.ReplaceAll(string(text), "[set]", "hunter2")), nil)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(cfg, again, cmp.Transformer("secret", config.Secret.Reveal),
		cmp.Comparer(func(a, b []config.Shard) bool { return len(a) == 0 && len(b) == 0 }),
		cmp.Comparer(func(a, b []string) bool { return strings.Join(a, ",") == strings.Join(b, ",") })))
}

func TestExampleIsValid(t *testing.T) {
	cfg, err := config.Load("../../auditstream.example.yaml", nil,
		config.CommandFetcher, config.CommandEnricher, config.CommandSink, config.CommandUp)
	require.NoError(t, err)
	require.NotEmpty(t, cfg.Sources)
}

func FuzzLoad(f *testing.F) {
	for _, path := range []string{"testdata/problems.yaml", "testdata/print.golden.yaml", "../../auditstream.example.yaml"} {
		text, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(string(text), "AUDITSTREAM_KAFKA_BROKERS=a")
	}
	f.Add("sources: [[]]\n? [a]\n: b", "AUDITSTREAM_=")
	f.Add("true: 1\nkafka: {1: 2}\nlog: {level: 2001-01-01}", "AUDITSTREAM_KAFKA=1")
	directory := f.TempDir()
	f.Fuzz(func(t *testing.T, text, variable string) {
		path := filepath.Join(directory, "auditstream.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		cfg, err := config.Load(path, []string{variable}, config.CommandUp)
		var problems *config.ProblemsError
		if err != nil && !errors.As(err, &problems) {
			t.Fatalf("not a problem of the configuration: %v", err)
		}
		if _, err := cfg.YAML(); err != nil {
			t.Fatal(err)
		}
	})
}
