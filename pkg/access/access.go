// Package access gives the identities that S3 and SQS are spoken to with: the
// AWS default credential chain or static keys, and the roles taken on from
// there. It stands before the first topic: the fetcher's queues and its object
// store, and what checks a source's access, get their AWS configuration here.
package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/auditstream/auditstream/pkg/config"
)

// regionWithoutMeaning is what stores other than AWS sign with when none is named.
const regionWithoutMeaning = "us-east-1"

const (
	requestTries     = 3                      // of one request, by the SDK
	requestBackoff   = 500 * time.Millisecond // at most, between those
	connectTimeout   = 5 * time.Second
	idleConnsPerHost = 128
	// renewBefore its end a role is taken anew, so that no request is signed with
	// what expires on its way.
	renewBefore        = time.Minute
	defaultSessionName = "auditstream"
)

// Identities are those of one configuration. They are safe for concurrent use.
type Identities struct {
	cfg       config.S3
	base      aws.Config // of the process, s3.role taken on
	transport *awshttp.BuildableClient

	mu    sync.Mutex
	roles map[config.Role]aws.CredentialsProvider
}

// ErrNoRegion is a configuration that names no region, nor a store for which
// regions mean nothing.
var ErrNoRegion = errors.New("s3.region must be set (or AWS_REGION)")

// New checks the configuration and reads the files it names. It sends nothing.
// answerTimeout bounds the wait for the first byte of an answer.
func New(ctx context.Context, cfg config.S3, answerTimeout time.Duration) (*Identities, error) {
	roots, err := rootCertificates(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	i := &Identities{cfg: cfg, roles: make(map[config.Role]aws.CredentialsProvider)}
	i.transport = awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = connectTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = idleConnsPerHost
			t.ResponseHeaderTimeout = answerTimeout
			if roots != nil {
				t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
			}
		})
	load := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithHTTPClient(i.transport),
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
			credentials.NewStaticCredentialsProvider(cfg.AccessKeyID, secret, cfg.SessionToken.Reveal())))
	}
	if i.base, err = awsconfig.LoadDefaultConfig(ctx, load...); err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	if i.base.Region == "" {
		return nil, ErrNoRegion
	}
	i.base.Credentials = i.assume(cfg.Role)
	return i, nil
}

// Config is for a client in a region ("": the configured one) with the role on
// top of the process's identity; without ARN it is the process's.
func (i *Identities) Config(role config.Role, region string) aws.Config {
	loaded := i.base.Copy()
	if region != "" {
		loaded.Region = region
	}
	if role.ARN == "" {
		return loaded
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.roles[role] == nil {
		i.roles[role] = i.assume(role)
	}
	loaded.Credentials = i.roles[role]
	return loaded
}

// Patient is a transport for requests whose answer is long in coming.
func (i *Identities) Patient(answerTimeout time.Duration) aws.HTTPClient {
	return i.transport.WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = answerTimeout })
}

// STS is a client that tells who the holder of a configuration is.
func (i *Identities) STS(loaded aws.Config) *sts.Client {
	return sts.NewFromConfig(loaded, func(o *sts.Options) {
		switch {
		case i.cfg.STSEndpoint != "":
			o.BaseEndpoint = aws.String(i.cfg.STSEndpoint)
		case i.cfg.Endpoint != "":
			// Stores that know roles (MinIO, Ceph) give them out at the same place.
			o.BaseEndpoint = aws.String(i.cfg.Endpoint)
		}
	})
}

// assume gives the credentials of a role, taken on by the process; without ARN
// the process's own. Taking the role waits for the first request.
func (i *Identities) assume(role config.Role) aws.CredentialsProvider {
	if role.ARN == "" {
		return i.base.Credentials
	}
	session := role.SessionName
	if session == "" {
		session = defaultSessionName
	}
	var provider aws.CredentialsProvider
	if role.WebIdentityTokenFile != "" {
		anonymous := i.base.Copy()
		anonymous.Credentials = aws.AnonymousCredentials{}
		provider = stscreds.NewWebIdentityRoleProvider(i.STS(anonymous), role.ARN,
			stscreds.IdentityTokenFile(role.WebIdentityTokenFile),
			func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = session })
	} else {
		provider = stscreds.NewAssumeRoleProvider(i.STS(i.base), role.ARN, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = session
			if role.ExternalID != "" {
				o.ExternalID = aws.String(role.ExternalID)
			}
		})
	}
	return aws.NewCredentialsCache(provider, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = renewBefore })
}

// IsRefused tells whether err is that of taking a role, or of finding out who
// one is, and so says nothing about what was asked for with it.
func IsRefused(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if operation, ok := err.(*smithy.OperationError); ok && operation.ServiceID == sts.ServiceID { //nolint:errorlint // each level by itself
			return true
		}
	}
	return false
}

func secretAccessKey(cfg config.S3) (string, error) {
	if cfg.SecretAccessKeyFile == "" {
		return cfg.SecretAccessKey.Reveal(), nil
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
