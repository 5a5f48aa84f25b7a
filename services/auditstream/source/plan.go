// Package source is what the commands about one source do: it writes down what
// an AWS account needs so that a source's notifications and objects can be
// read, and checks step by step whether they can. It stands beside the
// pipeline, which never changes anything in an account.
package source

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/auditstream/auditstream/pkg/config"
)

// Type of source that there is one topic for.
const Type = "kubernetes-audit"

// DefaultTopicPrefix begins the names of topics.
const DefaultTopicPrefix = "auditstream_"

// PlanOptions are what the configuration doesn't tell of the account.
type PlanOptions struct {
	Account     string // of the bucket, twelve digits
	Region      string // of the bucket: S3 notifies within its region only
	TopicPrefix string // empty: DefaultTopicPrefix
	Principal   string // who takes the role; empty: the account itself
	ExternalID  string // empty: that of the source's role
	KMSKey      string // ARN; empty: whatever key S3 uses
	MessageKey  string // ARN of the key of topic and queue; empty: SQS's own for the queue, none for the topic
}

// Plan is all that the account needs.
type Plan struct {
	Source    config.Source `json:"-"`
	Account   string        `json:"account"`
	Region    string        `json:"region"`
	TopicName string        `json:"topicName"`
	TopicARN  string        `json:"topicARN"`
	QueueName string        `json:"queueName"`
	QueueARN  string        `json:"queueARN"`
	QueueURL  string        `json:"queueURL"`
	RoleName  string        `json:"roleName"`
	RolePath  string        `json:"rolePath"`
	RoleARN   string        `json:"roleARN"`
	// PolicyName is of the source alone: sources may share the role.
	PolicyName string `json:"policyName"`
	// QueueIsElsewhere: the configured queue is another account's or region's.
	QueueIsElsewhere bool `json:"queueIsElsewhere,omitempty"`
	// QueueAccount is the queue's when it is another one: only from there can it
	// be subscribed without a confirmation.
	QueueAccount string `json:"queueAccount,omitempty"`
	// MessageKey is the KMS key of topic and queue, if they are to have one.
	MessageKey string `json:"messageKey,omitempty"`

	ofBucket   []config.Source // all of the configuration's in the bucket
	together   []config.Source // all that one call of the Terraform module has to know: it makes the topic, queue and role once
	partition  string
	principal  string
	externalID string
	kmsKey     string
}

var (
	accountNumber = regexp.MustCompile(`^\d{12}$`)
	regionName    = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-\d+$`)
	topicName     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)
	notInRole     = regexp.MustCompile(`[^A-Za-z0-9+=,.@_-]`)
)

// TopicName is that of the one topic for sources of a type: hyphens of the id
// become underscores.
func TopicName(prefix, id string) string { return prefix + strings.ReplaceAll(id, "-", "_") }

// NewPlan derives everything from the source, the others of the configuration
// and the options, and says all that is wrong with them.
func NewPlan(source config.Source, all []config.Source, opts PlanOptions) (Plan, error) {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !accountNumber.MatchString(opts.Account) {
		problem("--account %q is not an account's twelve digits", opts.Account)
	}
	if !regionName.MatchString(opts.Region) {
		problem("--region %q is not a region; write it like eu-central-1", opts.Region)
	}
	if source.Region != "" && opts.Region != source.Region {
		problem("--region %s is not that of the bucket, %s: S3 notifies topics in the bucket's own region only", opts.Region, source.Region)
	}
	if opts.TopicPrefix == "" {
		opts.TopicPrefix = DefaultTopicPrefix
	}
	p := Plan{
		Source: source, Account: opts.Account, Region: opts.Region, TopicName: TopicName(opts.TopicPrefix, Type),
		partition: partition(opts.Region), principal: opts.Principal, externalID: opts.ExternalID, kmsKey: opts.KMSKey, MessageKey: opts.MessageKey,
	}
	for i := range all {
		if all[i].Bucket == source.Bucket {
			p.ofBucket = append(p.ofBucket, all[i])
		}
		if all[i].Bucket == source.Bucket || source.Role.ARN != "" && all[i].Role.ARN == source.Role.ARN &&
			all[i].Queue.URL == source.Queue.URL && (all[i].Region == "" || all[i].Region == opts.Region) {
			p.together = append(p.together, all[i])
		}
	}
	if !topicName.MatchString(p.TopicName) {
		problem("--topic-prefix %q: a topic's name has up to 256 letters, digits, '_' and '-'", opts.TopicPrefix)
	}
	if p.externalID == "" {
		p.externalID = source.Role.ExternalID
	}
	if p.externalID == "" {
		problem("--external-id is missing, and sources' role.externalID is not set: choose one that others can't guess, " +
			"such as the output of `openssl rand -hex 16`, and set it in both places")
	}
	for i := range all {
		if other := &all[i]; source.Role.ARN != "" && other.Role.ARN == source.Role.ARN && other.Role.ExternalID != "" && other.Role.ExternalID != p.externalID {
			problem("source %s takes the same role with the external id %q: a role is set up with one, so give both the same or roles of their own",
				other.ID, other.Role.ExternalID)
		}
	}
	if p.principal == "" {
		p.principal = p.arn("iam", "", "root")
	}
	for flag, key := range map[string]string{"--kms-key": p.kmsKey, "--message-kms-key": p.MessageKey} {
		if key != "" && !strings.HasPrefix(key, "arn:") {
			problem("%s %q is not the ARN of a key", flag, key)
		}
	}
	p.TopicARN = p.arn("sns", p.Region, p.TopicName)
	p.queue()
	p.role()
	if owner := strings.Split(p.RoleARN, ":")[4]; owner != "" && owner != p.Account {
		problem("sources' role.arn is of account %s and --account is %s: the role is made in the account of the bucket", owner, p.Account)
	}
	return p, errors.Join(problems...)
}

func (p *Plan) arn(service, region, resource string) string {
	return strings.Join([]string{"arn", p.partition, service, region, p.Account, resource}, ":")
}

// queue is the configured one, or one beside the topic and of its name.
func (p *Plan) queue() {
	p.QueueName = p.TopicName
	p.QueueARN = p.arn("sqs", p.Region, p.QueueName)
	p.QueueURL = fmt.Sprintf("https://sqs.%s.%s/%s/%s", p.Region, domain(p.partition), p.Account, p.QueueName)
	parsed, err := url.Parse(p.Source.Queue.URL)
	if err != nil || p.Source.Queue.URL == "" {
		return
	}
	region := p.Source.Queue.QueueRegion()
	if region == "" {
		region = p.Region
	}
	account := path.Base(path.Dir(parsed.Path))
	p.QueueURL, p.QueueName = p.Source.Queue.URL, path.Base(parsed.Path)
	p.QueueARN = strings.Join([]string{"arn", p.partition, "sqs", region, account, p.QueueName}, ":")
	p.QueueIsElsewhere = account != p.Account || region != p.Region
	if account != p.Account {
		p.QueueAccount = account
	}
}

// role is the configured one, or one of the source's name.
func (p *Plan) role() {
	p.RoleName = "auditstream-" + notInRole.ReplaceAllString(p.Source.ID, "-")
	p.PolicyName = p.RoleName[:min(len(p.RoleName), 128)]
	p.RoleName = p.RoleName[:min(len(p.RoleName), 64)]
	p.RoleARN, p.RolePath = p.arn("iam", "", "role/"+p.RoleName), "/"
	if configured := p.Source.Role.ARN; configured != "" {
		p.RoleARN, p.RoleName = configured, path.Base(configured)
		p.RolePath = path.Dir(strings.SplitN(configured, ":role", 2)[1])
		if p.RolePath != "/" {
			p.RolePath += "/"
		}
	}
}

func (p *Plan) bucketARN() string { return "arn:" + p.partition + ":s3:::" + p.Source.Bucket }

// partition of AWS that a region is in.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

func domain(partition string) string {
	if partition == "aws-cn" {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}
