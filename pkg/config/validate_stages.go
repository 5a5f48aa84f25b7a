package config

import (
	"net/netip"
	"os"
	"strings"
	"time"
)

func (c *checker) s3(s *S3) {
	if s.Endpoint != "" {
		c.url("s3.endpoint", s.Endpoint)
	}
	if strings.ContainsFunc(s.Alias, func(r rune) bool { return r <= ' ' }) {
		c.problem("s3.alias", "%q holds a blank", s.Alias)
	}
	hasSecret := s.SecretAccessKey != "" || s.SecretAccessKeyFile != ""
	switch {
	case s.AccessKeyID != "" && !hasSecret:
		c.problem("s3.secretAccessKey", "missing: s3.accessKeyID is set, and they go together")
	case s.AccessKeyID == "" && hasSecret:
		c.problem("s3.accessKeyID", "missing: s3.secretAccessKey is set, and they go together")
	case s.AccessKeyID == "" && s.SessionToken != "":
		c.problem("s3.accessKeyID", "missing: s3.sessionToken is set, and they go together")
	}
	c.authorities("s3.caFile", s.CAFile)
	if s.STSEndpoint != "" {
		c.url("s3.stsEndpoint", s.STSEndpoint)
	}
	c.role("s3.role", &s.Role)
}

func isIP(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

func (c *checker) fetcher(f *Fetcher, cfg *Config) {
	if c.size("fetcher.sliceSize", f.SliceSize, 1<<10, 1<<30) && f.SliceSize < cfg.Topics.LineLimit {
		c.problem("fetcher.sliceSize", "%s is less than topics.lineLimit, %s: a line at the limit would not fit", f.SliceSize, cfg.Topics.LineLimit)
	}
	c.number("fetcher.objectsPerTransaction", f.ObjectsPerTransaction, 1, 100_000)
	c.number("fetcher.concurrency", f.Concurrency, 1, 1024)
	c.number("fetcher.openObjects", f.OpenObjects, 1, 100_000)
	if c.duration("fetcher.dedupeHorizon", f.DedupeHorizon, time.Minute, century) && f.DedupeHorizon > cfg.Topics.Objects.Retention {
		c.problem("fetcher.dedupeHorizon", "%s is longer than topics.objects.retention, %s: what Kafka has deleted can't be remembered",
			FormatDuration(f.DedupeHorizon), FormatDuration(cfg.Topics.Objects.Retention))
	}
	c.number("fetcher.dedupeObjects", f.DedupeObjects, 1, 1_000_000_000)
	c.size("fetcher.maxObjectSize", f.MaxObjectSize, 1<<20, 1<<60)
	c.number("fetcher.maxExpansion", f.MaxExpansion, 2, 1_000_000_000)
	c.number("fetcher.attempts", f.Attempts, 1, 1_000_000)
	c.duration("fetcher.backoff", f.Backoff, time.Millisecond, time.Hour)
	if c.duration("fetcher.stallTimeout", f.StallTimeout, 100*time.Millisecond, time.Hour) && f.StallTimeout >= cfg.Kafka.TransactionTimeout {
		c.problem("fetcher.stallTimeout", "%s is not less than kafka.transactionTimeout, %s: the transaction would end first",
			FormatDuration(f.StallTimeout), FormatDuration(cfg.Kafka.TransactionTimeout))
	}
}

func (c *checker) enricher(e *Enricher) {
	c.number("enricher.recordsPerTransaction", e.RecordsPerTransaction, 1, 10_000_000)
	c.number("enricher.concurrency", e.Concurrency, 0, 1024)
	c.duration("enricher.geoip.checkInterval", e.GeoIP.CheckInterval, time.Second, 365*day)
	if e.GeoIP.Directory != "" {
		info, err := os.Stat(e.GeoIP.Directory)
		switch {
		case err != nil:
			c.problem("enricher.geoip.directory", "%s can't be read: %s", e.GeoIP.Directory, cause(err))
		case !info.IsDir():
			c.problem("enricher.geoip.directory", "%s is not a directory; name files under enricher.geoip.files", e.GeoIP.Directory)
		}
	}
	for i, path := range e.GeoIP.Files {
		c.readable(index("enricher.geoip.files", i), path)
	}
}

// readable opens a file that may be large, without reading it.
func (c *checker) readable(key, path string) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		c.problem(key, "%s can't be read: not a regular file", path)
		return
	}
	f, err := os.Open(path)
	if err != nil {
		c.problem(key, "%s can't be read: %s", path, cause(err))
		return
	}
	if err := f.Close(); err != nil {
		c.problem(key, "%s can't be read: %s", path, cause(err))
	}
}

func (c *checker) sink(s *Sink, shards int) {
	c.number("sink.batchRows", s.BatchRows, 1, MaxBatchRows)
	if c.size("sink.batchSize", s.BatchSize, 1<<10, MaxBatchSize) && s.BatchSize > s.Memory/Size(shards) {
		if shards == 1 {
			c.problem("sink.batchSize", "%s is more than sink.memory, %s: a full batch would not fit", s.BatchSize, s.Memory)
		} else {
			c.problem("sink.batchSize", "%s is more than each of %d shards' part of sink.memory, %s: a full batch would not fit", s.BatchSize, shards, s.Memory)
		}
	}
	c.duration("sink.batchAge", s.BatchAge, time.Millisecond, time.Hour)
	c.number("sink.inserts", s.Inserts, 1, 1024)
	c.size("sink.memory", s.Memory, 1<<20, 1<<40)
	c.duration("sink.insertTimeout", s.InsertTimeout, time.Second, time.Hour)
	c.duration("sink.backoff", s.Backoff, time.Millisecond, time.Hour)
}

func (c *checker) clickHouse(h *ClickHouse) {
	c.addresses("clickhouse.addresses", h.Addresses)
	c.shards(h)
	for _, one := range []struct{ key, value string }{
		{"clickhouse.database", h.Database},
		{"clickhouse.table", h.Table},
		{"clickhouse.objectsTable", h.ObjectsTable},
	} {
		switch {
		case one.value == "":
			c.problem(one.key, "missing")
		case !tableName.MatchString(one.value):
			c.problem(one.key, "%q may hold letters, digits and '_' only, and doesn't begin with a digit", one.value)
		}
	}
	switch {
	case h.View == "":
	case !tableName.MatchString(h.View):
		c.problem("clickhouse.view", "%q may hold letters, digits and '_' only, and doesn't begin with a digit", h.View)
	case h.View == h.Table || h.View == h.ObjectsTable:
		c.problem("clickhouse.view", "%q is the name of a table", h.View)
	}
	if h.Table != "" && h.ObjectsTable == h.Table {
		c.problem("clickhouse.objectsTable", "%q is clickhouse.table too", h.Table)
	}
	if h.Username == "" {
		c.problem("clickhouse.username", "missing")
	}
	c.tls("clickhouse.tls", &h.TLS)
	c.oneOf("clickhouse.compression", h.Compression, "lz4", "zstd", "none")
	c.duration("clickhouse.dialTimeout", h.DialTimeout, 100*time.Millisecond, time.Hour)
	if h.Cluster != "" {
		c.identifier("clickhouse.cluster", h.Cluster, 200)
	}
}

// shards checks that each names its servers, and that none of them is named
// twice: its rows would be in two shards' places.
func (c *checker) shards(h *ClickHouse) {
	if len(h.Shards) > 0 && len(h.Addresses) > 0 {
		c.problem("clickhouse.shards", "is set, and so is clickhouse.addresses, which is one shard; keep one of them")
	}
	seen := map[string]string{}
	for i, shard := range h.Shards {
		key := join(index("clickhouse.shards", i), "addresses")
		if len(shard.Addresses) == 0 {
			c.problem(key, "missing: the shard's servers (a list of host:port of the native protocol)")
		}
		c.addresses(key, shard.Addresses)
		for j, address := range shard.Addresses {
			if other, found := seen[address]; found && other != key {
				c.problem(index(key, j), "%s is in %s too", address, other)
			}
			seen[address] = key
		}
	}
}
