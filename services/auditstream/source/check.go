package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/auditstream/auditstream/pkg/access"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/objectstore"
)

// State of one step of a check.
type State string

// The states.
const (
	StateOK      State = "ok"
	StateMissing State = "missing"
	StateSkipped State = "skipped" // nothing to check, or no way to
)

// Step is one thing that was tried.
type Step struct {
	Name  string
	State State
	Text  string // what was found, or what is missing and how that was told
}

// Queue is what is asked of the source's queue; *sqs.Client is one.
type Queue interface {
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessage(context.Context, *sqs.DeleteMessageInput, ...func(*sqs.Options)) (*sqs.DeleteMessageOutput, error)
}

// Check tries, with the identities that the fetcher has, whatever it needs of a
// source.
type Check struct {
	S3         config.S3
	Source     config.Source
	Store      *objectstore.Store
	Identities *access.Identities
	Queue      Queue // nil without one
}

// Run tries everything, in the order in which one thing needs another, and
// hands each step to yield.
func (c *Check) Run(ctx context.Context, yield func(Step)) {
	if !c.identity(ctx, yield) {
		for _, name := range []string{"queue", "list", "get", "decrypt"} {
			yield(Step{name, StateSkipped, "without the role there is nothing to try it with"})
		}
		return
	}
	c.queue(ctx, yield)
	key, listed, noBucket := c.list(ctx, yield)
	if noBucket {
		// A missing object in it would be told as one that may be got.
		yield(Step{"get", StateSkipped, "there is no bucket to get objects of"})
		yield(Step{"decrypt", StateSkipped, "there is no bucket to get objects of"})
		return
	}
	c.get(ctx, key, listed, yield)
}

func (c *Check) identity(ctx context.Context, yield func(Step)) bool {
	process, processErr := c.caller(ctx, config.Role{})
	role := c.Source.Role
	if role.ARN == "" {
		role = c.S3.Role
	}
	if role.ARN == "" {
		switch {
		case processErr == nil:
			yield(Step{"identity", StateOK, process})
		case c.S3.Endpoint != "" && c.S3.STSEndpoint == "":
			yield(Step{"identity", StateSkipped, "the store doesn't tell who one is there: " + brief(processErr)})
		default:
			yield(Step{"identity", StateMissing, "credentials: " + brief(processErr)})
		}
		return true
	}
	who, err := c.caller(ctx, c.Source.Role)
	if err == nil {
		yield(Step{"identity", StateOK, who})
		return true
	}
	action := "sts:AssumeRole"
	if role.WebIdentityTokenFile != "" {
		action += "WithWebIdentity"
	}
	text := fmt.Sprintf("%s on %s: %s", action, role.ARN, brief(err))
	if processErr == nil && c.S3.Role.ARN == "" {
		text += fmt.Sprintf("; the role has to trust %s", process)
		if role.ExternalID != "" {
			text += fmt.Sprintf(" with the external id %q", role.ExternalID)
		}
	}
	yield(Step{"identity", StateMissing, text})
	return false
}

// caller is who one is with the role.
func (c *Check) caller(ctx context.Context, role config.Role) (string, error) {
	out, err := c.Identities.STS(c.Identities.Config(role, "")).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.Arn), nil
}

// noReceipt is a receipt handle that never was one. A service that lets one
// delete messages says so; one that doesn't says that first.
const noReceipt = "auditstream-source-check"

func (c *Check) queue(ctx context.Context, yield func(Step)) {
	if c.Queue == nil {
		yield(Step{"queue", StateSkipped, "the source has no queue; its bucket is listed"})
		return
	}
	at := aws.String(c.Source.Queue.URL)
	var missing []string
	depth := ""
	attributes, err := c.Queue.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: at,
		AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameApproximateNumberOfMessages}})
	switch {
	case err == nil:
		depth = attributes.Attributes[string(types.QueueAttributeNameApproximateNumberOfMessages)]
	case !isDenied(err):
		yield(Step{"queue", StateMissing, fmt.Sprintf("%s%s: %s", *at, c.queueRegion(), brief(err))})
		return
	default:
		missing = append(missing, "sqs:GetQueueAttributes ("+brief(err)+")")
	}
	// What is received is there again after a second, which is the least: zero
	// would be left out of the request and mean the queue's own time.
	_, err = c.Queue.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: at, MaxNumberOfMessages: 1, VisibilityTimeout: 1})
	if err != nil {
		missing = append(missing, "sqs:ReceiveMessage ("+brief(err)+")")
	}
	_, err = c.Queue.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: at, ReceiptHandle: aws.String(noReceipt)})
	if err != nil && !isUnknownReceipt(err) {
		missing = append(missing, "sqs:DeleteMessage ("+brief(err)+")")
	}
	if len(missing) > 0 {
		yield(Step{"queue", StateMissing, fmt.Sprintf("on %s: %s", *at, strings.Join(missing, "; "))})
		return
	}
	yield(Step{"queue", StateOK, fmt.Sprintf("%s, about %s messages waiting", *at, depth)})
}

// queueRegion is where the queue was asked for: one that is in another region is
// told as one that does not exist.
func (c *Check) queueRegion() string {
	if region := c.Source.Queue.QueueRegion(); region != "" {
		return ", asked for in " + region
	}
	if c.S3.Region != "" {
		return ", asked for in " + c.S3.Region + " (s3.region, as the URL tells none and queue.region is not set)"
	}
	return ""
}

// mostKeys are looked at to find one of the source.
const mostKeys = 10_000

var errEnough = errors.New("enough")

// list finds an object of the source, or that there is no such bucket.
func (c *Check) list(ctx context.Context, yield func(Step)) (key string, listed, noBucket bool) {
	at := "s3://" + c.Source.Bucket + "/" + c.Source.Prefix
	selects, count := c.Source.Selector(), 0
	err := c.Store.List(ctx, c.Source.Bucket, c.Source.Prefix, "", func(object objectstore.Listed) error {
		count++
		if selects(object.Key) && object.Size > 0 {
			key = object.Key
			return errEnough
		}
		if count >= mostKeys {
			return errEnough
		}
		return nil
	})
	switch {
	case isNoBucket(err):
		yield(Step{"list", StateMissing, fmt.Sprintf("there is no bucket %s: %s", c.Source.Bucket, brief(err))})
		return "", false, true
	case err != nil && !errors.Is(err, errEnough):
		yield(Step{"list", StateMissing, fmt.Sprintf("s3:ListBucket on %s: %s", at, brief(err))})
		return "", false, false
	case key != "":
		yield(Step{"list", StateOK, fmt.Sprintf("%s%s, the first object is %s", at, c.region(ctx), key)})
	default:
		yield(Step{"list", StateOK, fmt.Sprintf("%s%s, no object of the source among %d", at, c.region(ctx), count)})
	}
	return key, true, false
}

func (c *Check) region(ctx context.Context) string {
	region, err := c.Store.Region(ctx, c.Source.Bucket, c.Source.Prefix)
	if err != nil {
		return ""
	}
	return " in " + region
}

// noObject is a key under the source's prefix that nobody has. Who may get
// objects, and list them, is told that it isn't there.
const noObject = "auditstream-source-check/none"

func (c *Check) get(ctx context.Context, key string, listed bool, yield func(Step)) {
	if key == "" {
		_, err := c.Store.Touch(ctx, c.Source.Bucket, c.Source.Prefix+noObject, "")
		switch {
		case errors.Is(err, objectstore.ErrMissing):
			yield(Step{"get", StateOK, "allowed, though there is no object yet"})
		case !listed:
			yield(Step{"get", StateSkipped, "no object is known to try it with"})
		default:
			yield(Step{"get", StateMissing, fmt.Sprintf("s3:GetObject on s3://%s/%s*: %s", c.Source.Bucket, c.Source.Prefix, brief(err))})
		}
		yield(Step{"decrypt", StateSkipped, "no object is known to try it with"})
		return
	}
	at := "s3://" + c.Source.Bucket + "/" + key
	touched, err := c.Store.Touch(ctx, c.Source.Bucket, key, "")
	if err != nil {
		if strings.Contains(strings.ToLower(err.Error()), "kms") {
			yield(Step{"get", StateOK, at + ", but for its key"})
			yield(Step{"decrypt", StateMissing, fmt.Sprintf("kms:Decrypt on the key of %s: %s", at, brief(err))})
			return
		}
		yield(Step{"get", StateMissing, fmt.Sprintf("s3:GetObject on %s: %s", at, brief(err))})
		yield(Step{"decrypt", StateSkipped, "nothing could be read"})
		return
	}
	if touched.Version != "" && touched.Version != "null" {
		if _, err := c.Store.Touch(ctx, c.Source.Bucket, key, touched.Version); err != nil {
			yield(Step{"get", StateMissing, fmt.Sprintf("s3:GetObjectVersion on %s: %s", at, brief(err))})
			yield(Step{"decrypt", StateSkipped, "nothing could be read by version"})
			return
		}
	}
	yield(Step{"get", StateOK, at})
	if strings.HasPrefix(touched.Encryption, "aws:kms") {
		yield(Step{"decrypt", StateOK, "with key " + touched.KMSKeyID})
		return
	}
	yield(Step{"decrypt", StateOK, "not needed: " + at + " is not encrypted with a key of KMS"})
}

func isDenied(err error) bool {
	var response *awshttp.ResponseError
	if errors.As(err, &response) && response.HTTPStatusCode() == http.StatusForbidden {
		return true
	}
	var api smithy.APIError
	return errors.As(err, &api) && strings.Contains(api.ErrorCode(), "AccessDenied")
}

func isNoBucket(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "NoSuchBucket"
}

func isUnknownReceipt(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && (strings.Contains(api.ErrorCode(), "ReceiptHandle") || api.ErrorCode() == "InvalidParameterValue")
}

// brief is the service's own words where there are some, and otherwise how far
// the request came.
func brief(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorMessage() != "" {
		return api.ErrorCode() + ": " + api.ErrorMessage()
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) && response.HTTPStatusCode() >= http.StatusBadRequest {
		return fmt.Sprintf("HTTP status %d, in words that are not understood", response.HTTPStatusCode())
	}
	var request *url.Error
	if errors.As(err, &request) {
		return request.Error()
	}
	return err.Error()
}
