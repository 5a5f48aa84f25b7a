package config

import (
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
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
}

// bucketName follows S3's rules, and lets through the capitals and underscores
// of old buckets and other stores.
var bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]$`)

func (c *checker) sources(sources []Source) {
	ids := map[string]int{}
	for i := range sources {
		s := &sources[i]
		key := index("sources", i)
		if c.identifier(key+".id", s.ID, 200) {
			if first, taken := ids[s.ID]; taken {
				c.problem(key+".id", "%q is the id of %s too", s.ID, index("sources", first))
			} else {
				ids[s.ID] = i
			}
		}
		if s.Workspace != "" {
			c.identifier(key+".workspace", s.Workspace, 200)
		}
		if s.TTLDays > MaxTTLDays {
			c.problem(key+".ttlDays", "%d is out of range; at most %d, 0 keeps for ever", s.TTLDays, MaxTTLDays)
		}
		switch {
		case s.Bucket == "":
			c.problem(key+".bucket", "missing")
		case !bucketName.MatchString(s.Bucket):
			c.problem(key+".bucket", "%q is not the name of a bucket (no s3://, no path)", s.Bucket)
		default:
			c.overlap(sources, i)
		}
		if !utf8.ValidString(s.Prefix) || strings.HasPrefix(s.Prefix, "s3://") {
			c.problem(key+".prefix", "%q is not the start of an object's key", s.Prefix)
		}
		for tag := range s.Tags {
			if tag == "" {
				c.problem(key+".tags", "a tag has no name")
			}
		}
		if s.APIServerAddress != "" && !isIP(s.APIServerAddress) {
			c.problem(key+".apiServerAddress", "%q is not an IP address", s.APIServerAddress)
		}
		for j, network := range s.TrustedProxies {
			if _, err := netip.ParsePrefix(network); err != nil {
				c.problem(index(key+".trustedProxies", j), "%q is not a network; write it like 10.0.0.0/8", network)
			}
		}
		for j, name := range s.EventKeys {
			if name == "" {
				c.problem(index(key+".eventKeys", j), "missing")
			}
		}
		if s.Listing.Enabled {
			c.duration(key+".listing.interval", s.Listing.Interval, 100*time.Millisecond, 30*day)
		}
	}
}

// overlap refuses two sources of the same objects: an object's rows belong to
// one source, and which would be left to chance.
func (c *checker) overlap(sources []Source, i int) {
	for j := range i {
		a, b := &sources[j], &sources[i]
		if a.Bucket == b.Bucket && (strings.HasPrefix(a.Prefix, b.Prefix) || strings.HasPrefix(b.Prefix, a.Prefix)) {
			c.problem(index("sources", i)+".prefix", "%q in bucket %s overlaps %s, which has %q: an object belongs to one source",
				b.Prefix, b.Bucket, index("sources", j), a.Prefix)
		}
	}
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

func (c *checker) sink(s *Sink) {
	c.number("sink.batchRows", s.BatchRows, 1, MaxBatchRows)
	if c.size("sink.batchSize", s.BatchSize, 1<<10, MaxBatchSize) && s.BatchSize > s.Memory {
		c.problem("sink.batchSize", "%s is more than sink.memory, %s: a full batch would not fit", s.BatchSize, s.Memory)
	}
	c.duration("sink.batchAge", s.BatchAge, time.Millisecond, time.Hour)
	c.number("sink.inserts", s.Inserts, 1, 1024)
	c.size("sink.memory", s.Memory, 1<<20, 1<<40)
	c.duration("sink.insertTimeout", s.InsertTimeout, time.Second, time.Hour)
	c.duration("sink.backoff", s.Backoff, time.Millisecond, time.Hour)
}

func (c *checker) clickHouse(h *ClickHouse) {
	c.addresses("clickhouse.addresses", h.Addresses)
	for _, one := range []struct{ key, value string }{
		{"clickhouse.database", h.Database},
		{"clickhouse.table", h.Table},
	} {
		switch {
		case one.value == "":
			c.problem(one.key, "missing")
		case !tableName.MatchString(one.value):
			c.problem(one.key, "%q may hold letters, digits and '_' only, and doesn't begin with a digit", one.value)
		}
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
