package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/pkg/embedded"
)

// options of one campaign.
type options struct {
	kafka     string
	duration  time.Duration // while faults happen
	settle    time.Duration // for everything to come through afterwards
	seed      uint64
	rate      int    // lines per second at most
	directory string // kept when the campaign fails
	keep      bool
	logLevel  string
	short     bool // each kind of fault once, not every place of it
	// least, if above zero, is after how long faults may end when every kind that
	// must fire has fired.
	least time.Duration
	out   io.Writer
}

const (
	bucket       = "audit"
	alias        = "chaos"
	sources      = 2
	linesAhead   = 60_000
	perStage     = 2 // instances
	engineMemory = 1_800_000_000
)

var stages = []string{"fetcher", "enricher", "sink"}

// campaign is the servers, the stages and what is known of them.
type campaign struct {
	options
	started   time.Time
	binary    string
	config    string
	group     string
	prefix    string
	spawner   *spawner
	sequence  atomic.Int64
	over      atomic.Bool // faults and feeding have ended, processes may end
	instances map[string][]*instance
	processes sync.Map // *stageProcess by client

	broker     broker
	engine     *embedded.ClickHouse
	s3         *embedded.S3
	kafkaProxy *proxy
	tableProxy *proxy
	s3Proxy    *s3Proxy

	client *kgo.Client
	admin  *kadm.Client
	table  driver.Conn
	feeder *feeder
	watch  *watch
	ledger *ledger

	rowsSeen atomic.Int64
	closers  []func() error
	errMu    sync.Mutex
	problems []string
}

// problem is a finding that fails the campaign, whatever the rows say.
func (c *campaign) problem(format string, arguments ...any) {
	text := fmt.Sprintf(format, arguments...)
	c.errMu.Lock()
	defer c.errMu.Unlock()
	c.problems = append(c.problems, text)
	c.note("PROBLEM " + text)
}

func (c *campaign) closeLater(end func() error) { c.closers = append(c.closers, end) }

func (c *campaign) close() error {
	c.over.Store(true)
	var failed error
	for i := len(c.closers) - 1; i >= 0; i-- {
		failed = errors.Join(failed, c.closers[i]())
	}
	return failed
}

// newCampaign starts servers, applies topics and schema as a user does, and
// starts the stages.
func newCampaign(ctx context.Context, o options) (*campaign, error) {
	c := &campaign{options: o, started: time.Now(), group: "chaos", prefix: "chaos.", spawner: newSpawner(), instances: map[string][]*instance{}}
	for _, folder := range []string{"logs", "reached"} {
		if err := os.MkdirAll(filepath.Join(o.directory, folder), 0o755); err != nil {
			return c, err
		}
	}
	var err error
	if c.ledger, err = newLedger(filepath.Join(o.directory, "faults.log")); err != nil {
		return c, err
	}
	c.closeLater(c.ledger.close)
	if err := c.build(ctx); err != nil {
		return c, err
	}
	if err := c.startServers(ctx); err != nil {
		return c, err
	}
	if err := c.prepare(ctx); err != nil {
		return c, err
	}
	for _, stage := range stages {
		for number := 1; number <= perStage; number++ {
			i := c.newInstance(stage, number)
			if err := i.start(nil); err != nil {
				return c, err
			}
			c.instances[stage] = append(c.instances[stage], i)
			c.closeLater(func() error { i.kill(i.current()); return nil })
		}
	}
	return c, nil
}

func (c *campaign) build(ctx context.Context) error {
	c.binary = filepath.Join(c.directory, "auditstream")
	command := exec.CommandContext(ctx, "go", "build", "-tags", "failpoints", "-o", c.binary, "github.com/auditstream/auditstream/services/auditstream")
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build the binary: %w\n%s", err, said)
	}
	return nil
}

func (c *campaign) startServers(ctx context.Context) error {
	log, err := os.Create(filepath.Join(c.directory, "logs", "servers.log"))
	if err != nil {
		return err
	}
	c.closeLater(log.Close)
	logger := slog.New(slog.NewTextHandler(log, nil))

	if c.kafkaProxy, err = newProxy(); err != nil {
		return err
	}
	if c.broker, err = startBroker(ctx, c.kafka, filepath.Join(c.directory, "kafka"), c.kafkaProxy.address()); err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	c.closeLater(func() error { c.kafkaProxy.close(); return c.broker.close() })
	c.kafkaProxy.to(c.broker.direct())

	memory := filepath.Join(c.directory, "engine.xml")
	if err := os.WriteFile(memory, fmt.Appendf(nil, "<clickhouse><max_server_memory_usage>%d</max_server_memory_usage></clickhouse>", engineMemory), 0o600); err != nil {
		return err
	}
	if c.engine, err = embedded.StartClickHouse(ctx, embedded.ClickHouseOptions{
		Directory: filepath.Join(c.directory, "clickhouse"), ConfigFile: memory, Log: logger,
	}); err != nil {
		return err
	}
	c.closeLater(c.engine.Close)
	if c.tableProxy, err = newProxy(); err != nil {
		return err
	}
	c.closeLater(func() error { c.tableProxy.close(); return nil })
	c.tableProxy.to(c.engine.Address())

	if c.s3, err = embedded.StartS3(ctx, embedded.S3Options{Directory: filepath.Join(c.directory, "s3"), Log: logger}); err != nil {
		return err
	}
	c.closeLater(c.s3.Close)
	if c.s3Proxy, err = newS3Proxy(c.s3.Endpoint(), c.random("s3 proxy")); err != nil {
		return err
	}
	c.closeLater(func() error { c.s3Proxy.close(); return nil })
	return c.s3.EnsureBucket(ctx, bucket)
}

// prepare applies topics and schema, and connects the campaign's own clients,
// which go past the proxies.
func (c *campaign) prepare(ctx context.Context) error {
	c.config = filepath.Join(c.directory, "auditstream.yaml")
	if err := os.WriteFile(c.config, []byte(c.yaml()), 0o600); err != nil {
		return err
	}
	for _, arguments := range [][]string{{"topics", "apply"}, {"schema", "apply"}} {
		said, err := exec.CommandContext(ctx, c.binary, append(arguments, "--config", c.config)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%v: %w\n%s", arguments, err, said)
		}
	}
	var err error
	if c.client, err = kgo.NewClient(c.kafkaOptions()...); err != nil {
		return err
	}
	c.closeLater(func() error { c.client.Close(); return nil })
	c.admin = kadm.NewClient(c.client)
	if c.table, err = clickhouse.Open(&clickhouse.Options{Addr: []string{c.engine.Address()}, DialTimeout: 2 * time.Second}); err != nil {
		return err
	}
	c.closeLater(c.table.Close)
	// No merges: collapsing must not hide a double.
	if err := c.table.Exec(ctx, "ALTER TABLE "+tableName+" MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1,"+
		" max_bytes_to_merge_at_min_space_in_pool = 1, "+manyParts); err != nil {
		return err
	}
	c.feeder = &feeder{
		client: s3.New(s3.Options{
			BaseEndpoint: aws.String(c.s3.Endpoint()), Region: c.s3.Region, UsePathStyle: true,
			Credentials: credentials.NewStaticCredentialsProvider(c.s3.AccessKeyID, c.s3.SecretAccessKey, ""),
		}),
		bucket: bucket, alias: alias, rng: c.random("feeder"), rate: c.rate, ahead: linesAhead, rows: c.rowsSeen.Load,
	}
	c.watch = newWatch(c, c.admin)
	return nil
}

const (
	tableName = "kubernetes_audit_logs"
	manyParts = "parts_to_delay_insert = 1000000, parts_to_throw_insert = 1000000"
)

// kafkaOptions reach the broker past the proxy, whatever address it tells.
func (c *campaign) kafkaOptions(more ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.SeedBrokers(c.broker.direct()),
		kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, c.broker.direct())
		}),
		kgo.MetadataMinAge(250 * time.Millisecond),
	}, more...)
}

// random is one of several independent sequences that the seed gives.
func (c *campaign) random(of string) *rand.Rand {
	var mixed uint64 = 14695981039346656037
	for _, b := range []byte(of) {
		mixed = (mixed ^ uint64(b)) * 1099511628211
	}
	return rand.New(rand.NewPCG(c.seed, mixed))
}

// insertTimeout is short, so that a server that hangs for a while is one whose
// answer is not waited for.
const (
	sessionTimeout = 4 * time.Second
	insertTimeout  = 4 * time.Second
)

func (c *campaign) yaml() string {
	return fmt.Sprintf(`
kafka: {brokers: ["%s"], group: %s, sessionTimeout: %s, transactionTimeout: 12s}
topics:
  prefix: %s
  lineLimit: %dKiB
  objects: {partitions: 4}
  raw: {partitions: 4}
  normalized: {partitions: 4}
  deadletter: {partitions: 2}
s3: {endpoint: "%s", alias: %s, region: %s, pathStyle: true, accessKeyID: "%s", secretAccessKey: "%s"}
sources:
  - {id: cluster-a, workspace: acme, bucket: %s, prefix: a/, listing: {enabled: true, interval: 1s}}
  - {id: cluster-b, workspace: acme, bucket: %s, prefix: b/, listing: {enabled: true, interval: 1s}}
fetcher: {sliceSize: 1MiB, objectsPerTransaction: 8, stallTimeout: 2s, backoff: 100ms, attempts: 100000}
enricher: {recordsPerTransaction: 2000, concurrency: 2}
sink: {batchRows: 3000, batchAge: 1s, backoff: 100ms, insertTimeout: %s}
clickhouse: {addresses: ["%s"], dialTimeout: 2s}
log: {level: %s}
`, c.kafkaProxy.address(), c.group, sessionTimeout, c.prefix, lineLimit>>10,
		c.s3Proxy.endpoint(), alias, c.s3.Region, c.s3.AccessKeyID, c.s3.SecretAccessKey, bucket, bucket,
		insertTimeout, c.tableProxy.address(), c.logLevel)
}

// countRows asks for the number of rows, with doubles; -1 while ClickHouse is away.
func (c *campaign) countRows(ctx context.Context) int64 {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var count uint64
	if err := c.table.QueryRow(ctx, "SELECT count() FROM "+tableName).Scan(&count); err != nil {
		return -1
	}
	c.rowsSeen.Store(int64(count))
	return int64(count)
}

func (c *campaign) topic(name string) string { return c.prefix + name }

// run is the whole campaign: faults while lines flow, then quiet, then the sets.
func (c *campaign) run(ctx context.Context) (*outcome, error) {
	faulty, calm := context.WithTimeout(ctx, c.duration)
	defer calm()
	var feeding, faults, background sync.WaitGroup
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	background.Go(func() { c.watch.run(watching) })
	background.Go(func() { c.tell(watching) })
	if c.least > 0 {
		background.Go(func() {
			for delay.For(faulty, c.least); faulty.Err() == nil && len(c.ledger.missing()) > 0; {
				delay.For(faulty, time.Second)
			}
			calm()
		})
	}
	if c.kafka == "kfake" {
		background.Go(func() { newSessions(c).run(watching) })
	}
	var fed error
	feeding.Go(func() { fed = c.feeder.run(faulty) })
	for _, lane := range c.lanes() {
		faults.Go(func() { lane.run(faulty) })
	}
	faults.Wait()
	feeding.Wait()
	if fed != nil {
		return nil, fmt.Errorf("feed: %w", fed)
	}
	c.note("faults have ended")
	found, err := c.settleDown(ctx)
	stopWatching()
	background.Wait()
	return found, err
}

// tell says every so often how it goes.
func (c *campaign) tell(ctx context.Context) {
	for turn := 1; delay.For(ctx, time.Second); turn++ {
		c.countRows(ctx)
		if turn%15 == 0 {
			fmt.Fprintf(c.out, "%4.0f s  %8d lines put  %8d rows  %4d faults  %3d kills\n", time.Since(c.started).Seconds(),
				c.feeder.lines.Load(), c.rowsSeen.Load(), c.ledger.total(), c.ledger.kills())
		}
	}
}
