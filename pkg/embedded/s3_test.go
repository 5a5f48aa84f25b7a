package embedded

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"
)

var bucket = aws.String("audit-logs")

func startS3Server(t *testing.T, options S3Options) *S3 {
	t.Helper()
	server, err := StartS3(testContext(t), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	require.NoError(t, server.EnsureBucket(testContext(t), *bucket))
	require.NoError(t, server.EnsureBucket(testContext(t), *bucket), "a bucket that is there is fine")
	return server
}

func put(t *testing.T, client *s3.Client, key, content string) {
	t.Helper()
	_, err := client.PutObject(testContext(t), &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader(content)})
	require.NoError(t, err)
}

func get(t *testing.T, client *s3.Client, input *s3.GetObjectInput) (string, *s3.GetObjectOutput) {
	t.Helper()
	input.Bucket = bucket
	object, err := client.GetObject(testContext(t), input)
	require.NoError(t, err)
	defer object.Body.Close()
	body, err := io.ReadAll(object.Body)
	require.NoError(t, err)
	return string(body), object
}

func TestS3KeepsObjectsOverARestartAndAKill(t *testing.T) {
	options := S3Options{Directory: t.TempDir(), Log: testLog(t)}
	server := startS3Server(t, options)
	put(t, server.Client(), "a/b.gz", "lines")
	_, before := get(t, server.Client(), &s3.GetObjectInput{Key: aws.String("a/b.gz")})
	hash := md5.Sum([]byte("lines"))
	require.Equal(t, strconv.Quote(hex.EncodeToString(hash[:])), *before.ETag)

	same := func() {
		t.Helper()
		body, after := get(t, server.Client(), &s3.GetObjectInput{Key: aws.String("a/b.gz")})
		require.Equal(t, "lines", body)
		require.Equal(t, before.ETag, after.ETag)
		require.Equal(t, before.LastModified, after.LastModified)
		listed, err := server.Client().ListObjectsV2(testContext(t), &s3.ListObjectsV2Input{Bucket: bucket})
		require.NoError(t, err)
		require.Len(t, listed.Contents, 1)
		require.Equal(t, before.ETag, listed.Contents[0].ETag)
		require.Equal(t, before.LastModified, listed.Contents[0].LastModified)
	}
	require.NoError(t, server.Kill())
	require.NoError(t, server.WaitReady(testContext(t)))
	same()
	require.NoError(t, server.Close())
	options.Address = server.address
	server = startS3Server(t, options)
	same()
}

func TestS3ListsInPagesInKeyOrder(t *testing.T) {
	server := startS3Server(t, S3Options{Directory: t.TempDir()})
	client := server.Client()
	var want []string
	for i := range 25 {
		key := fmt.Sprintf("logs/2026/%02d/audit.log", i)
		put(t, client, key, key)
		want = append(want, key)
	}
	put(t, client, "other", "x")

	list := func(input *s3.ListObjectsV2Input) (keys []string, pages int) {
		input.Bucket = bucket
		paginator := s3.NewListObjectsV2Paginator(client, input)
		for paginator.HasMorePages() {
			page, err := paginator.NextPage(testContext(t))
			require.NoError(t, err)
			require.LessOrEqual(t, len(page.Contents), 10)
			for _, object := range page.Contents {
				keys = append(keys, *object.Key)
			}
			pages++
		}
		return keys, pages
	}
	keys, pages := list(&s3.ListObjectsV2Input{Prefix: aws.String("logs/"), MaxKeys: aws.Int32(10)})
	require.Equal(t, want, keys)
	require.Equal(t, 3, pages)
	keys, _ = list(&s3.ListObjectsV2Input{Prefix: aws.String("logs/"), MaxKeys: aws.Int32(10), StartAfter: aws.String(want[19])})
	require.Equal(t, want[20:], keys)
}

func TestS3GetsRangesOfTheContentAskedFor(t *testing.T) {
	server := startS3Server(t, S3Options{Directory: t.TempDir()})
	client := server.Client()
	put(t, client, "key", "0123456789")
	_, object := get(t, client, &s3.GetObjectInput{Key: aws.String("key")})

	body, part := get(t, client, &s3.GetObjectInput{Key: aws.String("key"), Range: aws.String("bytes=3-"), IfMatch: object.ETag})
	require.Equal(t, "3456789", body)
	require.Equal(t, "bytes 3-9/10", *part.ContentRange)

	put(t, client, "key", "overwritten")
	_, err := client.GetObject(testContext(t), &s3.GetObjectInput{Bucket: bucket, Key: aws.String("key"), IfMatch: object.ETag})
	requireStatus(t, err, http.StatusPreconditionFailed)

	_, err = client.GetObject(testContext(t), &s3.GetObjectInput{Bucket: bucket, Key: aws.String("none")})
	var missing *types.NoSuchKey
	require.ErrorAs(t, err, &missing)
}

func requireStatus(t *testing.T, err error, status int) {
	t.Helper()
	var response *smithyhttp.ResponseError
	require.ErrorAs(t, err, &response)
	require.Equal(t, status, response.HTTPStatusCode())
}

func TestS3TakesOddKeys(t *testing.T) {
	server := startS3Server(t, S3Options{Directory: t.TempDir()})
	client := server.Client()
	for _, key := range []string{
		"with space", "plus+sign", "percent%20sign", "ümläut/日本", "equals=a&b", "quote'\"<>", "a:b;c,d", "#hash?question", "*~!()$@[]{}|^`\\", ".hidden/..dots",
	} {
		t.Run(key, func(t *testing.T) {
			put(t, client, key, key)
			body, _ := get(t, client, &s3.GetObjectInput{Key: &key})
			require.Equal(t, key, body)
			listed, err := client.ListObjectsV2(testContext(t), &s3.ListObjectsV2Input{Bucket: bucket, Prefix: &key})
			require.NoError(t, err)
			require.Len(t, listed.Contents, 1)
			require.Equal(t, key, *listed.Contents[0].Key)
		})
	}
}

func TestS3ChecksSignatures(t *testing.T) {
	server := startS3Server(t, S3Options{Directory: t.TempDir()})
	stranger := s3.New(s3.Options{
		BaseEndpoint: aws.String(server.Endpoint()),
		Region:       server.Region,
		Credentials:  credentials.NewStaticCredentialsProvider(server.AccessKeyID, "wrong", ""),
		UsePathStyle: true,
	})
	_, err := stranger.ListObjectsV2(testContext(t), &s3.ListObjectsV2Input{Bucket: bucket})
	var failure smithy.APIError
	require.True(t, errors.As(err, &failure))
	require.Equal(t, "SignatureDoesNotMatch", failure.ErrorCode())
}

func TestS3ServesManyAtOnce(t *testing.T) {
	server := startS3Server(t, S3Options{Directory: t.TempDir()})
	client := server.Client()
	failures := make(chan error, 64)
	var workers sync.WaitGroup
	for worker := range 16 {
		workers.Go(func() {
			for i := range 10 {
				key := fmt.Sprintf("%d/%d", worker, i)
				_, err := client.PutObject(testContext(t), &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader(key)})
				if err != nil {
					failures <- err
					return
				}
			}
		})
	}
	workers.Wait()
	close(failures)
	require.NoError(t, <-failures)
}

// The server must pass what is larger than its memory: its resident size is
// compared with what goes through it.
func TestS3MemoryStaysFlat(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("resident memory is read from /proc, which is not here")
	}
	const size, limit = 512 << 20, 192 << 20
	server := startS3Server(t, S3Options{Directory: t.TempDir()})
	client := server.Client()
	_, err := client.PutObject(testContext(t), &s3.PutObjectInput{
		Bucket: bucket, Key: aws.String("streamed"), Body: io.NewSectionReader(zeros{}, 0, size),
	})
	require.NoError(t, err)

	upload, err := client.CreateMultipartUpload(testContext(t), &s3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("parts")})
	require.NoError(t, err)
	const parts = 4
	var completed []types.CompletedPart
	for number := int32(1); number <= parts; number++ {
		part, err := client.UploadPart(testContext(t), &s3.UploadPartInput{
			Bucket: bucket, Key: aws.String("parts"), UploadId: upload.UploadId, PartNumber: &number,
			Body: io.NewSectionReader(zeros{}, 0, size/parts),
		})
		require.NoError(t, err)
		completed = append(completed, types.CompletedPart{ETag: part.ETag, PartNumber: aws.Int32(number)})
	}
	_, err = client.CompleteMultipartUpload(testContext(t), &s3.CompleteMultipartUploadInput{
		Bucket: bucket, Key: aws.String("parts"), UploadId: upload.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: completed},
	})
	require.NoError(t, err)

	for _, key := range []string{"streamed", "parts"} {
		object, err := client.GetObject(testContext(t), &s3.GetObjectInput{Bucket: bucket, Key: &key})
		require.NoError(t, err)
		read, err := io.Copy(io.Discard, object.Body)
		require.NoError(t, err)
		require.NoError(t, object.Body.Close())
		require.EqualValues(t, size, read)
	}
	peak := peakMemory(t, server.supervisor.pid())
	t.Logf("peak resident memory %d MiB for objects of %d MiB", peak>>20, size>>20)
	require.Less(t, peak, int64(limit))
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range bytes.Lines(status) {
		if rest, found := bytes.CutPrefix(line, []byte("VmHWM:")); found {
			kilobytes, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
			require.NoError(t, err)
			return kilobytes << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

func TestS3SaysWhyItDoesNotStart(t *testing.T) {
	server := startS3Server(t, S3Options{Directory: t.TempDir()})
	_, err := StartS3(testContext(t), S3Options{Directory: t.TempDir(), Address: server.address})
	require.ErrorIs(t, err, ErrAddressInUse)

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = StartS3(testContext(t), S3Options{Directory: file})
	require.ErrorContains(t, err, "not a directory")
}
