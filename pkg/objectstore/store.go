// Package objectstore reads S3 and what speaks its protocol: it lists a prefix
// page by page, and opens one exact content of an object as a stream that goes
// on at the same byte when a connection breaks. It stands before the first
// topic: the fetcher's intake lists with it, the fetcher's split reads with it.
package objectstore

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/auditstream/auditstream/pkg/access"
	"github.com/auditstream/auditstream/pkg/config"
)

// aliasAWS names Amazon's own endpoints, all regions alike: bucket names are
// unique over them.
const aliasAWS = "aws"

const defaultStallLimit = 30 * time.Second

// Options of a Store beside the connection's own.
type Options struct {
	// Sources tell with which role, in which region and at whose cost a bucket is
	// read. One that is no source's is read as the process.
	Sources []config.Source
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
	cfg          config.S3
	identities   *access.Identities
	alias        string
	grants       []grant
	stallTimeout time.Duration
	onResume     func(error)
	log          *slog.Logger

	mu      sync.Mutex
	clients map[clientKey]*s3.Client
	regions map[string]string // of buckets that turned out to be elsewhere
}

// grant says how what is under a prefix of a bucket is read.
type grant struct {
	bucket, prefix string
	role           config.Role
	region         string // empty: not known
	payer          types.RequestPayer
}

type clientKey struct {
	role   config.Role
	region string
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
	identities, err := access.New(ctx, cfg, opts.StallTimeout)
	if err != nil {
		return nil, fmt.Errorf("s3 client for %s: %w", alias, err)
	}
	s := &Store{
		cfg: cfg, identities: identities, alias: alias,
		stallTimeout: opts.StallTimeout, onResume: opts.OnResume, log: opts.Log,
		clients: make(map[clientKey]*s3.Client), regions: make(map[string]string),
	}
	for i := range opts.Sources {
		source := &opts.Sources[i]
		g := grant{bucket: source.Bucket, prefix: source.Prefix, role: source.Role, region: source.Region}
		if source.RequesterPays {
			g.payer = types.RequestPayerRequester
		}
		s.grants = append(s.grants, g)
	}
	return s, nil
}

// Alias names this store in object ids.
func (s *Store) Alias() string { return s.alias }

// Identities are those that the store is spoken to with.
func (s *Store) Identities() *access.Identities { return s.identities }

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

// grantFor is that of the longest prefix that key begins with. Sources of one
// bucket whose prefixes overlap have the same.
func (s *Store) grantFor(bucket, key string) grant {
	best := grant{bucket: bucket}
	length := -1
	for _, g := range s.grants {
		if g.bucket == bucket && len(g.prefix) > length && strings.HasPrefix(key, g.prefix) {
			best, length = g, len(g.prefix)
		}
	}
	if length < 0 {
		// A probe of the bucket as a whole: whoever may read a part will do.
		for _, g := range s.grants {
			if g.bucket == bucket {
				return g
			}
		}
	}
	return best
}

// client for a role in a region; the empty one is the configured.
func (s *Store) client(role config.Role, region string) *s3.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := clientKey{role, region}
	if client := s.clients[key]; client != nil {
		return client
	}
	client := s3.NewFromConfig(s.identities.Config(role, region), func(o *s3.Options) {
		o.UsePathStyle = s.cfg.PathStyle
		if s.cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(s.cfg.Endpoint)
		}
		// A checksum over the whole object can't be checked on a read that begins
		// or goes on in the middle; and not every store sends one.
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	})
	s.clients[key] = client
	return client
}
