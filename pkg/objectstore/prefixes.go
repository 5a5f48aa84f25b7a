package objectstore

import (
	"context"
	"fmt"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Prefixes gives the first of the prefixes below one, each up to and with the
// next delimiter, in order: a page of them, and whether there are more. Keys
// without the delimiter are left out.
func (s *Store) Prefixes(ctx context.Context, bucket, prefix, delimiter string) (prefixes []string, more bool, err error) {
	input := &s3.ListObjectsV2Input{
		Bucket: aws.String(bucket), Delimiter: aws.String(delimiter), EncodingType: types.EncodingTypeUrl,
	}
	if prefix != "" {
		input.Prefix = aws.String(prefix)
	}
	var page *s3.ListObjectsV2Output
	err = s.ask(ctx, bucket, prefix, func(client *s3.Client, payer types.RequestPayer) (err error) {
		input.RequestPayer = payer
		page, err = client.ListObjectsV2(ctx, input)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("list the prefixes of s3://%s/%s: %w", bucket, prefix, classify(err))
	}
	for _, common := range page.CommonPrefixes {
		found := aws.ToString(common.Prefix)
		if page.EncodingType == types.EncodingTypeUrl {
			if found, err = url.QueryUnescape(found); err != nil {
				return nil, false, fmt.Errorf("prefix %q in s3://%s: %w", aws.ToString(common.Prefix), bucket, err)
			}
		}
		prefixes = append(prefixes, found)
	}
	return prefixes, aws.ToBool(page.IsTruncated), nil
}
