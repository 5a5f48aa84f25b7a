package objectstore

import (
	"context"
	"errors"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// regionHeader tells the bucket's region in most answers of AWS, refusals included.
const regionHeader = "X-Amz-Bucket-Region"

// wrongRegion are error codes of a request that came to, or was signed for,
// another region than the bucket's.
var wrongRegion = map[string]bool{
	"PermanentRedirect":                  true,
	"TemporaryRedirect":                  true,
	"AuthorizationHeaderMalformed":       true,
	"IllegalLocationConstraintException": true,
	"IncorrectEndpoint":                  true,
}

// ask sends a request about a key, or a prefix, of a bucket with the role and
// the region that are its own. A bucket that turns out to be in another region
// is asked there, now and from then on.
func (s *Store) ask(ctx context.Context, bucket, key string, send func(*s3.Client, types.RequestPayer) error) error {
	g := s.grantFor(bucket, key)
	region := s.regionOf(g)
	client := s.client(g.role, region)
	err := send(client, g.payer)
	if err == nil || !isWrongRegion(err) {
		return err
	}
	asked := client.Options().Region
	found := regionIn(err)
	if found == "" || found == asked {
		found = lookUpRegion(ctx, client, bucket)
	}
	if found == "" || found == asked {
		return err
	}
	s.log.Info("the bucket is in another region", "bucket", bucket, "region", found, "asked in", asked)
	s.mu.Lock()
	s.regions[bucket] = found
	s.mu.Unlock()
	return send(s.client(g.role, found), g.payer)
}

func (s *Store) regionOf(g grant) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.regions[g.bucket]; found != "" {
		return found
	}
	return g.region
}

// Region is the bucket's, as the store says.
func (s *Store) Region(ctx context.Context, bucket, prefix string) (string, error) {
	region := ""
	err := s.ask(ctx, bucket, prefix, func(client *s3.Client, _ types.RequestPayer) error {
		out, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(bucket)})
		if err == nil {
			if region = aws.ToString(out.BucketRegion); region == "" {
				region = client.Options().Region // a store that knows of none
			}
		}
		return err
	})
	if told := regionIn(err); err != nil && told != "" {
		return told, nil // who may not ask is told all the same
	}
	return region, classify(err)
}

// lookUpRegion asks who ought to know.
func lookUpRegion(ctx context.Context, client *s3.Client, bucket string) string {
	out, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(bucket)})
	if err == nil {
		return aws.ToString(out.BucketRegion)
	}
	if region := regionIn(err); region != "" {
		return region
	}
	location, err := client.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: aws.String(bucket)})
	if err != nil {
		return ""
	}
	switch location.LocationConstraint {
	case "":
		return "us-east-1" // what AWS leaves unsaid
	case types.BucketLocationConstraintEu:
		return "eu-west-1" // its old name
	}
	return string(location.LocationConstraint)
}

func isWrongRegion(err error) bool {
	var api smithy.APIError
	if errors.As(err, &api) && wrongRegion[api.ErrorCode()] {
		return true
	}
	// Answers to HEAD have no body that would name the error.
	var response *awshttp.ResponseError
	if !errors.As(err, &response) {
		return false
	}
	status := response.HTTPStatusCode()
	return status == http.StatusMovedPermanently || status == http.StatusTemporaryRedirect ||
		status == http.StatusBadRequest && regionIn(err) != ""
}

func regionIn(err error) string {
	var response *awshttp.ResponseError
	if errors.As(err, &response) && response.Response != nil {
		return response.Response.Header.Get(regionHeader)
	}
	return ""
}
