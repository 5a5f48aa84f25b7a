package exactlyonce

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

// pipeline is everything one test needs: servers, configuration and binary.
type pipeline struct {
	binary, config string
	group, prefix  string
	brokers        []string
	admin          *kadm.Client
	clickhouse     *servers.ClickHouseServer
	s3             *servers.S3Server
}

// newPipeline applies topics and schema the way a user does, with the binary.
// Limits are small, so that work is cut into many transactions and batches.
func newPipeline(t *testing.T, brokers []string, clickhouseServer *servers.ClickHouseServer) *pipeline {
	t.Helper()
	name := servers.Name(t, "kills")
	p := &pipeline{
		binary: buildBinary(t), group: name, prefix: name + ".",
		brokers: brokers, clickhouse: clickhouseServer, s3: servers.S3(t),
	}
	p.config = filepath.Join(t.TempDir(), "auditstream.yaml")
	require.NoError(t, os.WriteFile(p.config, []byte(p.yaml()), 0o600))
	p.run(t, "topics", "apply")
	p.run(t, "schema", "apply")

	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	p.admin = kadm.NewClient(client)

	// No merges: collapsing must not hide a double.
	p.exec(t, "ALTER TABLE kubernetes_audit_logs MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1,"+
		" max_bytes_to_merge_at_min_space_in_pool = 1, parts_to_delay_insert = 100000, parts_to_throw_insert = 100000")
	return p
}

func (p *pipeline) yaml() string {
	return fmt.Sprintf(`
kafka: {brokers: [%s], group: %s, sessionTimeout: 6s, transactionTimeout: 10s}
topics:
  prefix: %s
  lineLimit: 64KiB
  objects: {partitions: 4}
  raw: {partitions: 4}
  normalized: {partitions: 4}
  deadletter: {partitions: 1}
s3: {endpoint: "%s", alias: test, region: %s, pathStyle: true, accessKeyID: "%s", secretAccessKey: "%s"}
sources:
  - {id: cluster-1, workspace: acme, bucket: %s, listing: {enabled: true, interval: 500ms}}
fetcher: {sliceSize: 128KiB, objectsPerTransaction: 8, stallTimeout: 2s, backoff: 100ms}
enricher: {recordsPerTransaction: 500}
sink: {batchRows: 500, batchAge: 500ms, backoff: 100ms}
clickhouse: {addresses: ["%s"], database: %s, username: "%s", password: "%s"}
`, strings.Join(p.brokers, ", "), p.group, p.prefix, p.s3.Endpoint, p.s3.Region, p.s3.AccessKeyID, p.s3.SecretAccessKey,
		p.s3.Bucket, p.clickhouse.Address, p.clickhouse.Database, p.clickhouse.Username, p.clickhouse.Password)
}

// connect opens a connection that survives the server's restarts.
func (p *pipeline) connect(t *testing.T) driver.Conn {
	t.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{p.clickhouse.Address},
		Auth: clickhouse.Auth{Database: p.clickhouse.Database, Username: p.clickhouse.Username, Password: p.clickhouse.Password},
	})
	require.NoError(t, err)
	return conn
}

func (p *pipeline) exec(t *testing.T, query string) {
	t.Helper()
	conn := p.connect(t)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.Exec(t.Context(), query))
}

// rows is the number of rows, or -1 while ClickHouse is away.
func (p *pipeline) rows(t *testing.T) int64 {
	t.Helper()
	conn := p.connect(t)
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var count uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM kubernetes_audit_logs").Scan(&count); err != nil {
		return -1
	}
	return int64(count) //nolint:gosec // a test's row count
}

// rowIDs is how many rows each id has, without FINAL.
func (p *pipeline) rowIDs(t *testing.T) map[string]uint64 { return p.idsOf(t, "kubernetes_audit_logs") }

// idsOf is how many rows each id has in a table or view.
func (p *pipeline) idsOf(t *testing.T, table string) map[string]uint64 {
	t.Helper()
	conn := p.connect(t)
	defer func() { _ = conn.Close() }()
	return servers.RowIDs(t, conn, table)
}

// deadLetterIDs is how many dead letters each line has.
func (p *pipeline) deadLetterIDs(t *testing.T) map[string]uint64 {
	t.Helper()
	ids := map[string]uint64{}
	p.read(t, topics.DeadLetter, func(r *kgo.Record) {
		letter, err := topics.DecodeDeadLetter(r)
		require.NoError(t, err)
		ids[identity.RowID(letter.Object, letter.Line, letter.Event)]++
	})
	return ids
}

// read gives what is committed in a topic to yield.
func (p *pipeline) read(t *testing.T, name string, yield func(*kgo.Record)) {
	t.Helper()
	topic := p.prefix + name
	ends, err := p.admin.ListCommittedOffsets(t.Context(), topic)
	require.NoError(t, err)
	client, err := kgo.NewClient(kgo.SeedBrokers(p.brokers...), kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	require.NoError(t, err)
	defer client.Close()
	want := int64(0)
	reached := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) { want += o.Offset })
	for sum(reached) < want {
		fetches := client.PollFetches(t.Context())
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			reached[r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() {
				yield(r)
			}
		})
	}
}

func sum(offsets map[int32]int64) (total int64) {
	for _, offset := range offsets {
		total += offset
	}
	return total
}

// produced is how far a topic's partitions have come, aborted records and
// transaction markers included.
func (p *pipeline) produced(t *testing.T, topic string) int64 {
	t.Helper()
	ends, err := p.admin.ListEndOffsets(t.Context(), p.prefix+topic)
	if err != nil || ends.Error() != nil {
		return -1
	}
	total := int64(0)
	ends.Each(func(o kadm.ListedOffset) { total += o.Offset })
	return total
}

// idle tells whether every stage has committed all there is to read.
func (p *pipeline) idle(t *testing.T) bool {
	t.Helper()
	for stage, topic := range map[string]string{"fetcher": topics.Objects, "enricher": topics.Raw, "sink": topics.Normalized, "ledger": topics.Ledger} {
		lags, err := p.admin.Lag(t.Context(), p.group+"-"+stage)
		if err != nil || lags.Error() != nil {
			return false
		}
		lag, known := lags[p.group+"-"+stage].Lag[p.prefix+topic]
		if !known {
			return false
		}
		for _, partition := range lag {
			if partition.Lag > 1 { // a last transaction marker may stand behind the last record
				return false
			}
		}
	}
	return true
}

// runAfterAKill is run for what comes after a command that was killed: the
// embedded engine aborts at times when a client breaks off, and is back in a moment.
func (p *pipeline) runAfterAKill(t *testing.T, arguments ...string) (output string) {
	t.Helper()
	eventually(t, time.Minute, "the engine is back", func() bool {
		said, err := command(t, p.binary, append(arguments, "--config", p.config)...).CombinedOutput()
		output = string(said)
		if err != nil {
			require.Contains(t, output, "ask the ledger: ", "%v: %v", arguments, err)
		}
		return err == nil
	})
	return output
}

// run runs one command of the binary to its end.
func (p *pipeline) run(t *testing.T, arguments ...string) string {
	t.Helper()
	output, err := command(t, p.binary, append(arguments, "--config", p.config)...).CombinedOutput()
	require.NoError(t, err, "%v: %s", arguments, output)
	return string(output)
}
