package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Command is what the configuration is for: each needs other parts of it.
type Command string

// The commands that need parts of the configuration to be there.
const (
	CommandFetcher  Command = "fetcher"
	CommandEnricher Command = "enricher"
	CommandSink     Command = "sink"
	CommandUp       Command = "up"
	CommandTopics   Command = "topics"
	CommandSchema   Command = "schema"
)

// Validate checks what is there, and that what the commands need is there. It is
// for a configuration that didn't come from Load, which does the same.
func (cfg *Config) Validate(commands ...Command) error {
	check := &checker{}
	check.validate(cfg, commands)
	return check.err(nil)
}

func (c *checker) validate(cfg *Config, commands []Command) {
	c.kafka(&cfg.Kafka)
	c.topics(&cfg.Topics)
	c.s3(&cfg.S3)
	c.sources(cfg.Sources)
	c.fetcher(&cfg.Fetcher, cfg)
	c.enricher(&cfg.Enricher)
	c.sink(&cfg.Sink, max(len(cfg.ClickHouse.Shards), 1))
	c.clickHouse(&cfg.ClickHouse)
	c.optionalAddress("admin.address", cfg.Admin.Address)
	c.oneOf("log.level", cfg.Log.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", cfg.Log.Format, "text", "json")
	c.embedded(&cfg.Embedded)
	for _, command := range commands {
		c.needs(cfg, command)
	}
}

// needs reports what a command can't do without.
func (c *checker) needs(cfg *Config, command Command) {
	switch command {
	case CommandFetcher, CommandEnricher:
		c.needsBrokers(cfg, command)
		if len(cfg.Sources) == 0 {
			c.problem("sources", "missing: %s needs at least one source (id and bucket)", command)
		}
	case CommandSink:
		c.needsBrokers(cfg, command)
		c.needsClickHouse(cfg, command)
	case CommandTopics:
		c.needsBrokers(cfg, command)
	case CommandSchema:
		c.needsClickHouse(cfg, command)
	case CommandUp:
		// Settings of a connection show that a server of one's own is meant; an
		// embedded one in its place would be a surprise.
		if len(cfg.Kafka.Brokers) == 0 && (cfg.Kafka.TLS.Enabled || cfg.Kafka.SASL.Mechanism != "") {
			c.problem("kafka.brokers", "missing: kafka.tls or kafka.sasl is set, but no broker to use it with")
		}
		if !cfg.ClickHouse.Named() && (cfg.ClickHouse.TLS.Enabled || cfg.ClickHouse.Password != "" || cfg.ClickHouse.Cluster != "") {
			c.problem("clickhouse.addresses", "missing: clickhouse.tls, password or cluster is set, but no server to use it with")
		}
		if cfg.Embedded.S3 && (cfg.S3.Endpoint != "" || cfg.S3.Region != "" || cfg.S3.AccessKeyID != "" || cfg.S3.Role.ARN != "") {
			c.problem("embedded.s3", "is set, and so are keys of s3, which are another server's; leave one of both out")
		}
		if cfg.Embedded.Directory == "" {
			c.problem("embedded.directory", "missing: where the embedded servers keep their data")
		}
	}
}

func (c *checker) needsBrokers(cfg *Config, command Command) {
	if len(cfg.Kafka.Brokers) == 0 {
		c.problem("kafka.brokers", "missing: %s needs a Kafka cluster (a list of host:port; only `up` brings its own)", command)
	}
}

func (c *checker) needsClickHouse(cfg *Config, command Command) {
	if !cfg.ClickHouse.Named() {
		c.problem("clickhouse.addresses",
			"missing: %s needs a ClickHouse server (a list of host:port of the native protocol; only `up` brings its own)", command)
	}
}

func (c *checker) embedded(e *Embedded) {
	addresses := map[string]string{}
	for _, one := range []struct{ key, address string }{
		{"embedded.clickhouseTCPAddress", e.ClickHouseTCPAddress},
		{"embedded.clickhouseHTTPAddress", e.ClickHouseHTTPAddress},
	} {
		if host, _, err := net.SplitHostPort(one.address); err == nil && host != "" && host != "127.0.0.1" {
			c.problem(one.key, "%q: the embedded engine has no password and listens on 127.0.0.1 only", one.address)
		}
	}
	for _, one := range []struct{ key, address string }{
		{"embedded.kafkaAddress", e.KafkaAddress},
		{"embedded.s3Address", e.S3Address},
		{"embedded.clickhouseTCPAddress", e.ClickHouseTCPAddress},
		{"embedded.clickhouseHTTPAddress", e.ClickHouseHTTPAddress},
	} {
		if !c.address(one.key, one.address) {
			continue
		}
		if other := addresses[one.address]; other != "" && !strings.HasSuffix(one.address, ":0") {
			c.problem(one.key, "%s is the address of %s too", one.address, other)
		}
		addresses[one.address] = one.key
	}
}

var (
	identifier = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	tableName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

func (c *checker) identifier(key, value string, longest int) bool {
	switch {
	case value == "":
		c.problem(key, "missing")
	case !identifier.MatchString(value):
		c.problem(key, "%q may hold letters, digits, '.', '_' and '-' only", value)
	case len(value) > longest:
		c.problem(key, "longer than %d characters", longest)
	default:
		return true
	}
	return false
}

func (c *checker) oneOf(key, value string, allowed ...string) {
	if slices.Contains(allowed, value) {
		return
	}
	list := strings.Join(allowed, ", ")
	if near := nearest(value, slices.Clone(allowed)); near != "" {
		c.problem(key, "%q is not one of %s; did you mean %s?", value, list, near)
		return
	}
	c.problem(key, "%q is not one of %s", value, list)
}

func (c *checker) addresses(key string, list []string) {
	seen := map[string]bool{}
	for i, address := range list {
		if c.address(index(key, i), address) && seen[address] {
			c.problem(index(key, i), "%s is in the list twice", address)
		}
		seen[address] = true
	}
}

func (c *checker) optionalAddress(key, address string) {
	if address != "" {
		c.listenAddress(key, address)
	}
}

// address checks host:port of something to connect to.
func (c *checker) address(key, address string) bool {
	if host, _, err := net.SplitHostPort(address); err == nil && host == "" {
		c.problem(key, "%q has no host", address)
		return false
	}
	return c.listenAddress(key, address)
}

// listenAddress checks host:port; no host is all of the machine's.
func (c *checker) listenAddress(key, address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || strings.ContainsAny(host, "/ \t") {
		c.problem(key, "%q is not an address; write host:port", address)
		return false
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		c.problem(key, "%q is not an address; the port is a number from 0 to 65535", address)
		return false
	}
	return true
}

func (c *checker) url(key, text string) {
	parsed, err := url.Parse(text)
	if err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Host == "" {
		c.problem(key, "%q is not a URL; write http://host:port or https://host", text)
	}
}

func (c *checker) tls(key string, t *TLS) {
	if !t.Enabled {
		for _, one := range []struct {
			name string
			set  bool
		}{
			{"caFile", t.CAFile != ""},
			{"certFile", t.CertFile != ""},
			{"keyFile", t.KeyFile != ""},
			{"serverName", t.ServerName != ""},
			{"insecureSkipVerify", t.InsecureSkipVerify},
		} {
			if one.set {
				c.problem(join(key, one.name), "is set, but %s.enabled is false", key)
			}
		}
		return
	}
	c.authorities(join(key, "caFile"), t.CAFile)
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		c.problem(join(key, "keyFile"), "missing: %s.certFile is set, and they go together", key)
	case t.KeyFile != "" && t.CertFile == "":
		c.problem(join(key, "certFile"), "missing: %s.keyFile is set, and they go together", key)
	case t.CertFile != "":
		cert, certRead := c.readFile(join(key, "certFile"), t.CertFile)
		private, keyRead := c.readFile(join(key, "keyFile"), t.KeyFile)
		if !certRead || !keyRead {
			return
		}
		if _, err := tls.X509KeyPair(cert, private); err != nil {
			c.problem(join(key, "certFile"), "%s and %s are not a certificate and its key: %s", t.CertFile, t.KeyFile, err)
		}
	}
}

func (c *checker) authorities(key, path string) {
	if path == "" {
		return
	}
	if text, ok := c.readFile(key, path); ok && !x509.NewCertPool().AppendCertsFromPEM(text) {
		c.problem(key, "%s holds no PEM certificate", path)
	}
}

func (c *checker) duration(key string, value, least, most time.Duration) bool {
	if value < least || value > most {
		c.problem(key, "%s is out of range; from %s to %s", FormatDuration(value), FormatDuration(least), FormatDuration(most))
		return false
	}
	return true
}

func (c *checker) size(key string, value, least, most Size) bool {
	if value < least || value > most {
		c.problem(key, "%s is out of range; from %s to %s", value, least, most)
		return false
	}
	return true
}

func (c *checker) number(key string, value, least, most int) bool {
	if value < least || value > most {
		c.problem(key, "%s is out of range; from %d to %d", fmt.Sprint(value), least, most)
		return false
	}
	return true
}
