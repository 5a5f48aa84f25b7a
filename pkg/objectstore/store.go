// Package objectstore reads S3 and what speaks its protocol: it lists a prefix
// page by page, and opens one exact content of an object as a stream that goes
// on at the same byte when a connection breaks. It stands before the first
// topic: the fetcher's intake lists with it, the fetcher's split reads with it.
package objectstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/auditstream/auditstream/pkg/config"
)

// aliasAWS names Amazon's own endpoints, all regions alike: bucket names are
// unique over them.
const aliasAWS = "aws"

// regionWithoutMeaning is what stores other than AWS sign with when none is named.
const regionWithoutMeaning = "us-east-1"

const (
	requestTries      = 3                      // of one request, by the SDK
	requestBackoff    = 500 * time.Millisecond // at most, between those
	connectTimeout    = 5 * time.Second
	idleConnsPerHost  = 128
	defaultStallLimit = 30 * time.Second
)

// Options of a Store beside the connection's own.
type Options struct {
	// StallTimeout ends a request or a read that gives no byte for so long; it
	// is then tried again. Zero: 30 s.
	StallTimeout time.Duration
	// OnResume, when set, is told of every break in the middle of a body after
	// which the read goes on.
	OnResume func(error)
	Log      *slog.Logger
}

// Store is a connection to one object store. It is safe for concurrent use.
type Store struct {
	client       *s3.Client
	alias        string
	stallTimeout time.Duration
	onResume     func(error)
	log          *slog.Logger
}

// New checks the configuration and reads the files it names. It sends nothing.
func New(ctx context.Context, cfg config.S3, opts Options) (*Store, error) {
	if opts.StallTimeout <= 0 {
		opts.StallTimeout = defaultStallLimit
	}
	if opts.OnResume == nil {
		opts.OnResume = func(error) {}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	alias, err := Alias(cfg)
	if err != nil {
		return nil, err
	}
	client, err := newClient(ctx, cfg, opts.StallTimeout)
	if err != nil {
		return nil, fmt.Errorf("s3 client for %s: %w", alias, err)
	}
	return &Store{
		client: client, alias: alias,
		stallTimeout: opts.StallTimeout, onResume: opts.OnResume, log: opts.Log,
	}, nil
}

// Alias names this store in object ids.
func (s *Store) Alias() string { return s.alias }

// Alias is the name of the configured store in object ids: the alias given,
// "aws" for AWS, else the endpoint's host and port in lower case.
func Alias(cfg config.S3) (string, error) {
	switch {
	case cfg.Alias != "":
		return cfg.Alias, nil
	case cfg.Endpoint == "":
		return aliasAWS, nil
	}
	endpoint, err := url.Parse(cfg.Endpoint)
	if err != nil || endpoint.Host == "" {
		return "", fmt.Errorf("s3.endpoint %q is not a URL like https://minio.example:9000", cfg.Endpoint)
	}
	return strings.ToLower(endpoint.Host), nil
}

func newClient(ctx context.Context, cfg config.S3, stallTimeout time.Duration) (*s3.Client, error) {
	roots, err := rootCertificates(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	transport := awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = connectTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = idleConnsPerHost
			t.ResponseHeaderTimeout = stallTimeout
			if roots != nil {
				t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
			}
		})
	load := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithHTTPClient(transport),
		awsconfig.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts = requestTries
				o.MaxBackoff = requestBackoff
			})
		}),
	}
	region := cfg.Region
	if region == "" && cfg.Endpoint != "" {
		region = regionWithoutMeaning
	}
	if region != "" {
		load = append(load, awsconfig.WithRegion(region))
	}
	if cfg.AccessKeyID != "" {
		secret, err := secretAccessKey(cfg)
		if err != nil {
			return nil, err
		}
		load = append(load, awsconfig.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(cfg.AccessKeyID, secret, string(cfg.SessionToken))))
	}
	loaded, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	if loaded.Region == "" {
		return nil, errors.New("s3.region must be set (or AWS_REGION)")
	}
	return s3.NewFromConfig(loaded, func(o *s3.Options) {
		o.UsePathStyle = cfg.PathStyle
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
		// A checksum over the whole object can't be checked on a read that begins
		// or goes on in the middle; and not every store sends one.
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	}), nil
}

func secretAccessKey(cfg config.S3) (string, error) {
	if cfg.SecretAccessKeyFile == "" {
		return string(cfg.SecretAccessKey), nil
	}
	content, err := os.ReadFile(cfg.SecretAccessKeyFile)
	if err != nil {
		return "", fmt.Errorf("s3.secretAccessKeyFile: %w", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// rootCertificates are the system's and those of the file, or nil for the
// system's alone.
func rootCertificates(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("s3.caFile: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("s3.caFile %s holds no PEM certificate", file)
	}
	return roots, nil
}
