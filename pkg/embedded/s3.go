package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// What the S3 server accepts. It listens on the loopback address only, so the
// secret guards nothing; it is fixed so that a command typed yesterday still
// works today.
const (
	s3AccessKeyID     = "auditstream"
	s3SecretAccessKey = "auditstream-local"
	s3Region          = "us-east-1"
)

// S3Options say where the server keeps its objects and listens. Only
// Directory is required.
type S3Options struct {
	Directory string // created if missing; needs a file system with extended attributes
	Address   string // "127.0.0.1:port"; a free port without one
	Log       *slog.Logger
}

// S3 is a running S3 server: objects are files below Directory/objects. It is
// restarted on the same port when it dies. Clients use path-style addressing.
type S3 struct {
	AccessKeyID     string
	SecretAccessKey string
	Region          string

	address    string
	supervisor *supervisor
}

// StartS3 starts the server and returns when it answers. ctx bounds the start
// only.
//
// The server is versitygw over a folder, in a process of its own because it
// changes the working directory and knows only one server per process.
func StartS3(ctx context.Context, options S3Options) (*S3, error) {
	if options.Directory == "" {
		return nil, errors.New("start S3: no directory given")
	}
	directory, err := filepath.Abs(options.Directory)
	if err != nil {
		return nil, fmt.Errorf("start S3: %w", err)
	}
	order := s3Order{
		Data:            filepath.Join(directory, "objects"),
		AccessKeyID:     s3AccessKeyID,
		SecretAccessKey: s3SecretAccessKey,
		Region:          s3Region,
	}
	if err := os.MkdirAll(order.Data, 0o755); err != nil {
		return nil, fmt.Errorf("start S3: create folder: %w", err)
	}
	for attempt := 1; ; attempt++ {
		order.Address = options.Address
		if order.Address == "" {
			port, err := portOrFree(0)
			if err != nil {
				return nil, fmt.Errorf("start S3: %w", err)
			}
			order.Address = localAddress(port)
		}
		s, err := startS3(ctx, order, orDiscard(options.Log))
		if err == nil {
			return s, nil
		}
		if options.Address != "" || !errors.Is(err, ErrAddressInUse) || attempt == portAttempts {
			return nil, err
		}
	}
}

func startS3(ctx context.Context, order s3Order, log *slog.Logger) (*S3, error) {
	if err := requireFreeAddress(order.Address); err != nil {
		return nil, fmt.Errorf("start S3: %w", err)
	}
	s := &S3{
		AccessKeyID:     order.AccessKeyID,
		SecretAccessKey: order.SecretAccessKey,
		Region:          order.Region,
		address:         order.Address,
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	s.supervisor = &supervisor{
		name: "S3 server",
		spawn: func() (*process, error) {
			return spawn(childOrder{S3: &order}, fmt.Sprintf("s3-server %s %s", order.Address, order.Data))
		},
		probe: func(ctx context.Context) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint()+s3HealthPath, nil)
			if err != nil {
				return err
			}
			response, err := client.Do(request)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("health check: %s", response.Status)
			}
			return nil
		},
		log: log,
	}
	if err := superviseChild(ctx, s.supervisor); err != nil {
		return nil, err
	}
	log.Info("S3 server started", "endpoint", s.Endpoint(), "folder", order.Data)
	return s, nil
}

// s3HealthPath is no bucket's: bucket names have no underscore.
const s3HealthPath = "/_health"

// Address is where the server listens, as "127.0.0.1:port".
func (s *S3) Address() string { return s.address }

// Endpoint is the server's URL.
func (s *S3) Endpoint() string { return "http://" + s.address }

// Client returns a client of this server.
func (s *S3) Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(s.Endpoint()),
		Region:       s.Region,
		Credentials:  credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey, ""),
		UsePathStyle: true,
	})
}

// EnsureBucket creates a bucket unless it is there.
func (s *S3) EnsureBucket(ctx context.Context, name string) error {
	_, err := s.Client().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name})
	var owned *types.BucketAlreadyOwnedByYou
	var exists *types.BucketAlreadyExists
	if err != nil && !errors.As(err, &owned) && !errors.As(err, &exists) {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	return nil
}

// Kill ends the server with SIGKILL; it is then restarted.
func (s *S3) Kill() error { return s.supervisor.kill() }

// WaitReady returns when the server runs and answers.
func (s *S3) WaitReady(ctx context.Context) error { return s.supervisor.waitReady(ctx) }

// Close ends the server after the requests in flight, by force after a
// bounded time.
func (s *S3) Close() error { return s.supervisor.close() }
