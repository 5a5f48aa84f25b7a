package source

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/auditstream/auditstream/pkg/config"
)

// policy is a document of IAM, or of what has policies of its own.
type policy struct {
	Version   string      `json:"Version"`
	Statement []statement `json:"Statement"`
}

type statement struct {
	Sid       string            `json:"Sid,omitempty"`
	Effect    string            `json:"Effect"`
	Principal map[string]string `json:"Principal,omitempty"`
	Action    []string          `json:"Action"`
	Resource  string            `json:"Resource,omitempty"`
	Condition condition         `json:"Condition,omitempty"`
}

// condition is operator, key, values.
type condition map[string]map[string][]string

func allow(statements ...statement) policy {
	for i := range statements {
		statements[i].Effect = "Allow"
	}
	return policy{Version: "2012-10-17", Statement: statements}
}

// TopicPolicy lets the account's buckets, and nobody's else, publish: the topic
// is there for all sources of the type. Where the queue is another account's,
// that one may subscribe it.
func (p *Plan) TopicPolicy() any {
	statements := []statement{{
		Sid: "BucketsNotify", Principal: map[string]string{"Service": "s3.amazonaws.com"},
		Action: []string{"sns:Publish"}, Resource: p.TopicARN,
		Condition: condition{
			"ArnLike":      {"aws:SourceArn": {"arn:" + p.partition + ":s3:::*"}},
			"StringEquals": {"aws:SourceAccount": {p.Account}},
		},
	}}
	if p.QueueAccount != "" {
		statements = append(statements, statement{
			Sid: "QueueOwnerSubscribes", Principal: map[string]string{"AWS": "arn:" + p.partition + ":iam::" + p.QueueAccount + ":root"},
			Action: []string{"sns:Subscribe"}, Resource: p.TopicARN,
			Condition: condition{"StringEquals": {"sns:Protocol": {"sqs"}, "sns:Endpoint": {p.QueueARN}}},
		})
	}
	return allow(statements...)
}

// QueuePolicy lets the topic send.
func (p *Plan) QueuePolicy() any {
	return allow(statement{
		Sid: "TopicSends", Principal: map[string]string{"Service": "sns.amazonaws.com"},
		Action: []string{"sqs:SendMessage"}, Resource: p.QueueARN,
		Condition: condition{"ArnEquals": {"aws:SourceArn": {p.TopicARN}}},
	})
}

// KeyPolicy are the statements that the policy of a key has to have when topic
// or queue are encrypted with it: the services that put messages in encrypt them.
// Without, S3 and SNS drop the messages in silence. AWS's own keys for SNS and
// SQS can't be used, as their policies can't be changed.
func (p *Plan) KeyPolicy() any {
	use := []string{"kms:GenerateDataKey*", "kms:Decrypt"}
	return allow(
		statement{
			Sid: "BucketsEncryptForTheTopic", Principal: map[string]string{"Service": "s3.amazonaws.com"}, Action: use, Resource: "*",
			Condition: condition{
				"ArnLike":      {"aws:SourceArn": {"arn:" + p.partition + ":s3:::*"}},
				"StringEquals": {"aws:SourceAccount": {p.Account}},
			},
		},
		statement{
			Sid: "TopicEncryptsForTheQueue", Principal: map[string]string{"Service": "sns.amazonaws.com"}, Action: use, Resource: "*",
			Condition: condition{"ArnEquals": {"aws:SourceArn": {p.TopicARN}}},
		},
	)
}

// RolePolicy is the least that reading the source needs.
func (p *Plan) RolePolicy() any {
	list := statement{Sid: "List", Action: []string{"s3:ListBucket"}, Resource: p.bucketARN()}
	if p.Source.Prefix != "" {
		list.Condition = condition{"StringLike": {"s3:prefix": {p.Source.Prefix + "*"}}}
	}
	decrypt := statement{Sid: "Decrypt", Action: []string{"kms:Decrypt"}, Resource: p.kmsKey}
	if p.kmsKey == "" {
		decrypt.Resource = p.arn("kms", p.Region, "key/*")
		decrypt.Condition = condition{"StringEquals": {"kms:ViaService": {"s3." + p.Region + "." + domain(p.partition)}}}
	}
	statements := []statement{
		list,
		{Sid: "Get", Action: []string{"s3:GetObject", "s3:GetObjectVersion"}, Resource: p.bucketARN() + "/" + p.Source.Prefix + "*"},
		{Sid: "Receive", Action: []string{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}, Resource: p.QueueARN},
		decrypt,
	}
	if p.MessageKey != "" {
		statements = append(statements, statement{Sid: "DecryptMessages", Action: []string{"kms:Decrypt"}, Resource: p.MessageKey})
	}
	return allow(statements...)
}

// TrustPolicy lets the principal take the role, with the external id.
func (p *Plan) TrustPolicy() any {
	return allow(statement{
		Principal: map[string]string{"AWS": p.principal}, Action: []string{"sts:AssumeRole"},
		Condition: condition{"StringEquals": {"sts:ExternalId": {p.externalID}}},
	})
}

// notificationConfiguration of a bucket, as `aws s3api` takes it.
type notificationConfiguration struct {
	Topics []topicConfiguration `json:"TopicConfigurations"`
}

type topicConfiguration struct {
	ID     string   `json:"Id"`
	Topic  string   `json:"TopicArn"`
	Events []string `json:"Events"`
	Filter *filter  `json:"Filter,omitempty"`
}

type filter struct {
	Key struct {
		Rules []filterRule `json:"FilterRules"`
	} `json:"Key"`
}

type filterRule struct {
	Name  string `json:"Name"`
	Value string `json:"Value"`
}

// Notification is the notification configuration of the bucket, with all of its
// sources: it is one document.
func (p *Plan) Notification() any {
	all := make([]topicConfiguration, 0, len(p.ofBucket))
	for _, source := range notified(p.ofBucket) {
		all = append(all, p.notificationOf(&source))
	}
	return notificationConfiguration{Topics: all}
}

// notified are the sources of one bucket that S3 can tell apart, which it does
// by prefix and suffix alone. Otherwise it is one for all, and the fetcher routes.
func notified(ofBucket []config.Source) []config.Source {
	if oneForAll(ofBucket) {
		return []config.Source{*widest(ofBucket)}
	}
	return ofBucket
}

// notificationID is the same for each source whichever one the plan is for.
func notificationID(source *config.Source) string { return "auditstream-" + source.ID }

func (p *Plan) notificationOf(source *config.Source) topicConfiguration {
	configuration := topicConfiguration{ID: notificationID(source), Topic: p.TopicARN, Events: events(source)}
	for _, rule := range []filterRule{{"prefix", source.Prefix}, {"suffix", source.Suffix}} {
		if rule.Value == "" {
			continue
		}
		if configuration.Filter == nil {
			configuration.Filter = &filter{}
		}
		configuration.Filter.Key.Rules = append(configuration.Filter.Key.Rules, rule)
	}
	return configuration
}

// oneForAll tells whether two of the bucket's sources differ in more than
// prefixes or suffixes: S3 refuses overlapping filters.
func oneForAll(ofBucket []config.Source) bool {
	for i := range ofBucket {
		for j := range i {
			a, b := &ofBucket[i], &ofBucket[j]
			if (strings.HasPrefix(a.Prefix, b.Prefix) || strings.HasPrefix(b.Prefix, a.Prefix)) &&
				(strings.HasSuffix(a.Suffix, b.Suffix) || strings.HasSuffix(b.Suffix, a.Suffix)) {
				return true
			}
		}
	}
	return false
}

// widest stands for all of the bucket's sources.
func widest(ofBucket []config.Source) *config.Source {
	widest := ofBucket[0]
	widest.Suffix = ""
	widest.Queue.Events = nil
	for i := range ofBucket {
		for !strings.HasPrefix(ofBucket[i].Prefix, widest.Prefix) {
			_, size := utf8.DecodeLastRuneInString(widest.Prefix)
			widest.Prefix = widest.Prefix[:len(widest.Prefix)-size]
		}
		for _, event := range ofBucket[i].Queue.Events {
			if !slices.Contains(widest.Queue.Events, event) {
				widest.Queue.Events = append(widest.Queue.Events, event)
			}
		}
	}
	return &widest
}

// events as S3 writes them.
func events(source *config.Source) []string {
	all := make([]string, 0, len(source.Queue.Events))
	for _, event := range source.Queue.Events {
		all = append(all, "s3:"+strings.TrimPrefix(event, "s3:"))
	}
	return all
}
