package objectstore

import (
	"context"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Stat asks for what a listing would say of one object. It is for those who
// were told of an object and not of its content; version may be empty. The size
// is below zero when the store doesn't say it.
func (s *Store) Stat(ctx context.Context, bucket, key, version string) (Listed, error) {
	input := &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)}
	if version != "" {
		input.VersionId = aws.String(version)
	}
	var out *s3.HeadObjectOutput
	err := s.ask(ctx, bucket, key, func(client *s3.Client, payer types.RequestPayer) (err error) {
		input.RequestPayer = payer
		out, err = client.HeadObject(ctx, input)
		return err
	})
	if err != nil {
		return Listed{}, fmt.Errorf("look at s3://%s/%s: %w", bucket, key, classify(err))
	}
	listed := Listed{
		Key:          key,
		ETag:         bareETag(aws.ToString(out.ETag)),
		Size:         -1,
		LastModified: aws.ToTime(out.LastModified).UTC(),
	}
	if out.ContentLength != nil {
		listed.Size = *out.ContentLength
	}
	return listed, nil
}

// Touched is what an object's store says of it when it is read.
type Touched struct {
	Version    string // empty in a bucket without versions
	Encryption string // AES256, aws:kms, aws:kms:dsse; empty: none named
	KMSKeyID   string
}

// Touch reads the first byte of an object, if it has one, to see whether that
// is allowed. The version may be empty.
func (s *Store) Touch(ctx context.Context, bucket, key, version string) (Touched, error) {
	var touched Touched
	err := s.ask(ctx, bucket, key, func(client *s3.Client, payer types.RequestPayer) error {
		input := &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), RequestPayer: payer, Range: aws.String("bytes=0-0")}
		if version != "" {
			input.VersionId = aws.String(version)
		}
		out, err := client.GetObject(ctx, input)
		if err != nil && isRangeBeyondEnd(err) {
			input.Range = nil
			out, err = client.GetObject(ctx, input)
		}
		if err != nil {
			return err
		}
		defer out.Body.Close()
		touched = Touched{Version: aws.ToString(out.VersionId), Encryption: string(out.ServerSideEncryption), KMSKeyID: aws.ToString(out.SSEKMSKeyId)}
		_, err = io.Copy(io.Discard, io.LimitReader(out.Body, 1))
		return err
	})
	if err != nil {
		return touched, fmt.Errorf("get s3://%s/%s: %w", bucket, key, classify(err))
	}
	return touched, nil
}
