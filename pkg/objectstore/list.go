package objectstore

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Listed is one object as a listing names it.
type Listed struct {
	Key          string
	ETag         string
	Size         int64
	LastModified time.Time
}

// List hands every object under prefix whose key is after startAfter to yield,
// in the order of keys, one page in memory at a time. It ends with yield's
// error when that is not nil.
func (s *Store) List(ctx context.Context, bucket, prefix, startAfter string, yield func(Listed) error) error {
	input := &s3.ListObjectsV2Input{
		Bucket: aws.String(bucket),
		// XML can't carry every character that a key can.
		EncodingType: types.EncodingTypeUrl,
	}
	if prefix != "" {
		input.Prefix = aws.String(prefix)
	}
	if startAfter != "" {
		input.StartAfter = aws.String(startAfter)
	}
	for {
		var page *s3.ListObjectsV2Output
		err := s.ask(ctx, bucket, prefix, func(client *s3.Client, payer types.RequestPayer) (err error) {
			input.RequestPayer = payer
			page, err = client.ListObjectsV2(ctx, input)
			return err
		})
		if err != nil {
			return fmt.Errorf("list s3://%s/%s: %w", bucket, prefix, classify(err))
		}
		for i := range page.Contents {
			listed, err := listedOf(&page.Contents[i], page.EncodingType)
			if err != nil {
				return fmt.Errorf("list s3://%s/%s: %w", bucket, prefix, err)
			}
			if err := yield(listed); err != nil {
				return err
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return nil
		}
		if aws.ToString(page.NextContinuationToken) == "" {
			return fmt.Errorf("list s3://%s/%s: the store says there is more, and not where", bucket, prefix)
		}
		input.ContinuationToken = page.NextContinuationToken
	}
}

// Probe asks the store for one key of the bucket. An error that is not
// ErrUnavailable shows that the store answers.
func (s *Store) Probe(ctx context.Context, bucket, prefix string) error {
	input := &s3.ListObjectsV2Input{Bucket: aws.String(bucket), MaxKeys: aws.Int32(1)}
	if prefix != "" {
		input.Prefix = aws.String(prefix)
	}
	err := s.ask(ctx, bucket, prefix, func(client *s3.Client, payer types.RequestPayer) error {
		input.RequestPayer = payer
		_, err := client.ListObjectsV2(ctx, input)
		return err
	})
	if err != nil {
		return fmt.Errorf("probe s3://%s/%s: %w", bucket, prefix, classify(err))
	}
	return nil
}

func listedOf(content *types.Object, encoding types.EncodingType) (Listed, error) {
	key := aws.ToString(content.Key)
	if encoding == types.EncodingTypeUrl {
		decoded, err := url.QueryUnescape(key)
		if err != nil {
			return Listed{}, fmt.Errorf("key %q: %w", key, err)
		}
		key = decoded
	}
	return Listed{
		Key:          key,
		ETag:         bareETag(aws.ToString(content.ETag)),
		Size:         aws.ToInt64(content.Size),
		LastModified: aws.ToTime(content.LastModified).UTC(),
	}, nil
}
