package clickhouse

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/telemetry"
)

// The defaults of what the configuration leaves out.
const (
	DefaultDatabase    = "default"
	DefaultTable       = "kubernetes_audit_logs"
	defaultDialTimeout = 10 * time.Second
)

// readTimeout bounds the silence of a server while a query runs; the caller's
// deadline replaces it.
const readTimeout = 5 * time.Minute

// Connect opens a pool over all addresses, the first that answers is used. It
// does not dial: a server that is away shows at the first query.
func Connect(cfg config.ClickHouse, log *slog.Logger) (driver.Conn, error) {
	options, err := Options(cfg, log)
	if err != nil {
		return nil, err
	}
	connection, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("connect to ClickHouse: %w", err)
	}
	return connection, nil
}

// Shards are connections to all shards, in their order.
type Shards []driver.Conn

// ConnectShards is Connect for each shard.
func ConnectShards(cfg config.ClickHouse, log *slog.Logger) (Shards, error) {
	var shards Shards
	for _, shard := range cfg.PerShard() {
		connection, err := Connect(shard, log)
		if err != nil {
			return nil, errors.Join(err, shards.Close())
		}
		shards = append(shards, connection)
	}
	return shards, nil
}

// Close ends all connections.
func (s Shards) Close() error {
	var problems []error
	for _, connection := range s {
		problems = append(problems, connection.Close())
	}
	return errors.Join(problems...)
}

// Options are clickhouse-go's options for cfg. Every problem is reported at once.
func Options(cfg config.ClickHouse, log *slog.Logger) (*clickhouse.Options, error) {
	var problems []error
	if len(cfg.Addresses) == 0 {
		problems = append(problems, errors.New("clickhouse.addresses: none given"))
	}
	compression, err := compressionOf(cfg.Compression)
	problems = append(problems, err)
	secure, err := tlsConfig(cfg.TLS)
	problems = append(problems, err)
	password := string(cfg.Password)
	if cfg.PasswordFile != "" {
		text, err := os.ReadFile(cfg.PasswordFile)
		if err != nil {
			problems = append(problems, fmt.Errorf("clickhouse.passwordFile: %w", err))
		}
		password = strings.TrimRight(string(text), "\r\n")
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	dialTimeout := cfg.DialTimeout
	if dialTimeout <= 0 {
		dialTimeout = defaultDialTimeout
	}
	options := &clickhouse.Options{
		Addr:        cfg.Addresses,
		TLS:         secure,
		Auth:        clickhouse.Auth{Username: cfg.Username, Password: password},
		Compression: compression,
		DialTimeout: dialTimeout,
		ReadTimeout: readTimeout,
		// The same server as long as it answers: it has what was just written.
		ConnOpenStrategy: clickhouse.ConnOpenInOrder,
		// The callers bound what runs at once; waiting for a connection would
		// look like a server that is away.
		MaxOpenConns:    64,
		MaxIdleConns:    8,
		ConnMaxLifetime: 10 * time.Minute,
		// One large block would otherwise stay in each idle connection.
		FreeBufOnConnRelease: true,
	}
	options.ClientInfo.Products = append(options.ClientInfo.Products,
		struct{ Name, Version string }{Name: "auditstream", Version: "1"})
	if log != nil {
		options.Logger = telemetry.Quiet(log, slog.LevelDebug)
	}
	return options, nil
}

func compressionOf(name string) (*clickhouse.Compression, error) {
	switch strings.ToLower(name) {
	case "", "lz4":
		return &clickhouse.Compression{Method: clickhouse.CompressionLZ4}, nil
	case "zstd":
		return &clickhouse.Compression{Method: clickhouse.CompressionZSTD, Level: 1}, nil
	case "none":
		return &clickhouse.Compression{Method: clickhouse.CompressionNone}, nil
	}
	return nil, fmt.Errorf("clickhouse.compression: %q is none of lz4, zstd, none", name)
}

func tlsConfig(cfg config.TLS) (*tls.Config, error) {
	if !cfg.Enabled {
		return nil, nil
	}
	secure := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         cfg.ServerName,
		InsecureSkipVerify: cfg.InsecureSkipVerify, //nolint:gosec // the operator's explicit choice
	}
	var problems []error
	if cfg.CAFile != "" {
		text, err := os.ReadFile(cfg.CAFile)
		pool := x509.NewCertPool()
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("clickhouse.tls.caFile: %w", err))
		case !pool.AppendCertsFromPEM(text):
			problems = append(problems, fmt.Errorf("clickhouse.tls.caFile: no certificate in %s", cfg.CAFile))
		}
		secure.RootCAs = pool
	}
	if cfg.CertFile != "" || cfg.KeyFile != "" {
		certificate, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			problems = append(problems, fmt.Errorf("clickhouse.tls.certFile, keyFile: %w", err))
		}
		secure.Certificates = []tls.Certificate{certificate}
	}
	return secure, errors.Join(problems...)
}
