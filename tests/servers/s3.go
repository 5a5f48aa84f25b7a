package servers

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/embedded"
)

const s3Variable = "AUDITSTREAM_TEST_S3"

// S3Server is a server with a bucket for one test. Clients use path-style
// addressing.
type S3Server struct {
	Endpoint        string
	Region          string
	AccessKeyID     string
	SecretAccessKey string
	Bucket          string
}

var sharedS3 = sync.OnceValues(func() (*embedded.S3, error) {
	folder, err := sharedFolder("s3")
	if err != nil {
		return nil, err
	}
	ctx, cancel := startContext()
	defer cancel()
	server, err := embedded.StartS3(ctx, embedded.S3Options{Directory: folder, Log: log})
	if err != nil {
		return nil, err
	}
	atEnd.add(server.Close)
	return server, nil
})

// S3 returns a server, the environment's or one shared by this test process,
// with a fresh bucket that is removed after the test.
func S3(t testing.TB) *S3Server {
	t.Helper()
	server := namedS3(t)
	if server == nil {
		shared, err := sharedS3()
		require.NoError(t, err)
		server = &S3Server{
			Endpoint:        shared.Endpoint(),
			Region:          shared.Region,
			AccessKeyID:     shared.AccessKeyID,
			SecretAccessKey: shared.SecretAccessKey,
		}
	}
	server.Bucket = Name(t, "test")
	client := server.Client(t)
	_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &server.Bucket})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, removeBucket(client, server.Bucket)) })
	return server
}

// Client returns a client of the server.
func (s *S3Server) Client(t testing.TB) *s3.Client {
	t.Helper()
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(s.Endpoint),
		Region:       s.Region,
		Credentials:  credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey, ""),
		UsePathStyle: true,
	})
}

// Config is a configuration that names the server by an alias.
func (s *S3Server) Config(alias string) config.S3 {
	return config.S3{
		Endpoint: s.Endpoint, Alias: alias, Region: s.Region, PathStyle: true,
		AccessKeyID: s.AccessKeyID, SecretAccessKey: config.Secret(s.SecretAccessKey),
	}
}

// namedS3 is the server that the environment names, nil without one.
func namedS3(t testing.TB) *S3Server {
	t.Helper()
	endpoint := os.Getenv(s3Variable)
	if endpoint == "" {
		return nil
	}
	loaded, err := awsconfig.LoadDefaultConfig(t.Context())
	require.NoError(t, err)
	keys, err := loaded.Credentials.Retrieve(t.Context())
	require.NoError(t, err, "%s is set, so AWS credentials must be", s3Variable)
	server := &S3Server{
		Endpoint:        endpoint,
		Region:          loaded.Region,
		AccessKeyID:     keys.AccessKeyID,
		SecretAccessKey: keys.SecretAccessKey,
	}
	if server.Region == "" {
		server.Region = "us-east-1"
	}
	return server
}

// removeBucket deletes a bucket and what it holds. The test's own context is
// over when it runs.
func removeBucket(client *s3.Client, bucket string) error {
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &bucket})
	for pages.HasMorePages() {
		if err := emptyPage(client, bucket, pages); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	if _, err := client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &bucket}); err != nil {
		return fmt.Errorf("delete bucket %s: %w", bucket, err)
	}
	return nil
}

// requestLimit bounds the deletion of one page of objects.
const requestLimit = 2 * time.Minute

func emptyPage(client *s3.Client, bucket string, pages *s3.ListObjectsV2Paginator) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	page, err := pages.NextPage(ctx)
	if err != nil {
		return fmt.Errorf("list %s: %w", bucket, err)
	}
	if len(page.Contents) == 0 {
		return nil
	}
	objects := make([]types.ObjectIdentifier, 0, len(page.Contents))
	for _, object := range page.Contents {
		objects = append(objects, types.ObjectIdentifier{Key: object.Key})
	}
	deleted, err := client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{Objects: objects}})
	if err != nil {
		return fmt.Errorf("empty %s: %w", bucket, err)
	}
	if len(deleted.Errors) > 0 {
		return fmt.Errorf("empty %s: %s: %s", bucket, aws.ToString(deleted.Errors[0].Key), aws.ToString(deleted.Errors[0].Message))
	}
	return nil
}
