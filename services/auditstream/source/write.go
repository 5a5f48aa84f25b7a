package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/auditstream/auditstream/pkg/config"
)

// document is one JSON text, as people read it.
func document(value any) (string, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return "", fmt.Errorf("write a policy: %w", err)
	}
	return strings.TrimSuffix(text.String(), "\n"), nil
}

// WriteJSON writes every name and document as one JSON object.
func (p *Plan) WriteJSON(w io.Writer) error {
	text, err := document(struct {
		*Plan
		TopicPolicy  any `json:"topicPolicy"`
		QueuePolicy  any `json:"queuePolicy"`
		KeyPolicy    any `json:"keyPolicyIfEncrypted"`
		Notification any `json:"bucketNotification"`
		RolePolicy   any `json:"rolePolicy"`
		TrustPolicy  any `json:"trustPolicy"`
	}{p, p.TopicPolicy(), p.QueuePolicy(), p.KeyPolicy(), p.Notification(), p.RolePolicy(), p.TrustPolicy()})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, text)
	return err
}

// WriteTerraform writes a call of the module deploy/terraform.
func (p *Plan) WriteTerraform(w io.Writer) error {
	file := hclwrite.NewEmptyFile()
	module := file.Body().AppendNewBlock("module", []string{"auditstream"}).Body()
	set := func(name string, value cty.Value) { module.SetAttributeValue(name, value) }
	set("source", cty.StringVal("github.com/auditstream/auditstream//deploy/terraform"))
	module.AppendNewline()
	sources := make(map[string]cty.Value)
	for _, source := range p.ofModule() {
		names := make([]cty.Value, 0, len(source.Queue.Events))
		for _, event := range events(&source) {
			names = append(names, cty.StringVal(event))
		}
		sources[source.ID] = cty.ObjectVal(map[string]cty.Value{
			"bucket": cty.StringVal(source.Bucket),
			"prefix": cty.StringVal(source.Prefix),
			"suffix": cty.StringVal(source.Suffix),
			"events": cty.ListVal(names),
		})
	}
	set("sources", cty.MapVal(sources))
	set("topic_prefix", cty.StringVal(strings.TrimSuffix(p.TopicName, TopicName("", Type))))
	set("role_name", cty.StringVal(p.RoleName))
	if p.RolePath != "/" {
		set("role_path", cty.StringVal(p.RolePath))
	}
	set("principal_arns", cty.ListVal([]cty.Value{cty.StringVal(p.principal)}))
	set("external_id", cty.StringVal(p.externalID))
	if p.kmsKey != "" {
		set("kms_key_arns", cty.ListVal([]cty.Value{cty.StringVal(p.kmsKey)}))
	}
	if p.MessageKey != "" {
		set("message_kms_key_arn", cty.StringVal(p.MessageKey))
	}
	if p.QueueIsElsewhere {
		set("queue_arn", cty.StringVal(p.QueueARN))
	} else if p.QueueName != p.TopicName {
		set("queue_name", cty.StringVal(p.QueueName))
	}
	_, err := fmt.Fprintf(w, "# Account %s, region %s. One call is for all sources there, as the topic is: what is\n"+
		"# printed for another bucket goes into its sources. Bucket notifications are a whole\n"+
		"# for each bucket: see the module's manage_bucket_notifications when it has others.\n", p.Account, p.Region)
	if err != nil {
		return err
	}
	if p.QueueAccount != "" {
		_, err = fmt.Fprintf(w, "# The queue is account %s's, which lets the topic send (output queue_policy) and\n"+
			"# subscribes the queue: aws_sns_topic_subscription, raw_message_delivery = true.\n", p.QueueAccount)
		if err != nil {
			return err
		}
	}
	_, err = w.Write(file.Bytes())
	return err
}

// ofModule are the sources that the call of the module names, bucket by bucket:
// a second call would make topic, queue and role again.
func (p *Plan) ofModule() []config.Source {
	var all []config.Source
	done := map[string]bool{}
	for i := range p.together {
		bucket := p.together[i].Bucket
		if done[bucket] {
			continue
		}
		done[bucket] = true
		var ofBucket []config.Source
		for j := range p.together {
			if p.together[j].Bucket == bucket {
				ofBucket = append(ofBucket, p.together[j])
			}
		}
		all = append(all, notified(ofBucket)...)
	}
	return all
}

// WriteShell writes a script for the AWS command line that can be run again.
func (p *Plan) WriteShell(w io.Writer) error {
	values := struct {
		*Plan
		ExternalID, Principal                                           string
		TopicPolicy, QueuePolicy, Notification, RolePolicy, TrustPolicy string
		KeyPolicy                                                       string
		QueueAttributes                                                 string
		OwnNotifications                                                []string
	}{Plan: p, ExternalID: p.externalID, Principal: p.principal}
	for into, value := range map[*string]any{
		&values.TopicPolicy: p.TopicPolicy(), &values.QueuePolicy: p.QueuePolicy(), &values.Notification: p.Notification(),
		&values.RolePolicy: p.RolePolicy(), &values.TrustPolicy: p.TrustPolicy(), &values.KeyPolicy: p.KeyPolicy(),
	} {
		text, err := document(value)
		if err != nil {
			return err
		}
		*into = text
	}
	queue := map[string]string{"Policy": values.QueuePolicy, "MessageRetentionPeriod": "1209600"}
	if p.MessageKey != "" {
		queue["KmsMasterKeyId"] = p.MessageKey
	} else {
		queue["SqsManagedSseEnabled"] = "true"
	}
	attributes, err := document(queue)
	if err != nil {
		return err
	}
	values.QueueAttributes = attributes
	for i := range p.ofBucket {
		values.OwnNotifications = append(values.OwnNotifications, fmt.Sprintf("%q", notificationID(&p.ofBucket[i])))
	}
	return script.Execute(w, values)
}

// quote is text as one word of a shell.
func quote(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.:/@=,+", r)
	}
	if text != "" && !slices.ContainsFunc([]rune(text), func(r rune) bool { return !plain(r) }) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// comment keeps a value on its line.
func comment(text string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(text) }

var script = template.Must(template.New("setup").Funcs(template.FuncMap{"quote": quote, "comment": comment}).Parse(`#!/bin/sh
# What source {{comment .Source.ID}} needs in account {{.Account}}, region {{.Region}}:
#   topic  {{.TopicARN}}
#   queue  {{.QueueARN}}
#   role   {{.RoleARN}}
# For the AWS command line, with rights to make these; it can be run again.
set -eu
# Version 1 of the command reads AWS_DEFAULT_REGION, version 2 has a pager.
export AWS_REGION={{quote .Region}} AWS_DEFAULT_REGION={{quote .Region}} AWS_PAGER=
account="$(aws sts get-caller-identity --query Account --output text)"
test "$account" = {{quote .Account}} ||
  { echo "these are keys of account $account, not of {{.Account}}" >&2; exit 1; }

{{if .MessageKey}}# Topic and queue are encrypted with
#   {{comment .MessageKey}}
# A key has one policy, which is not written over: add these statements to it
# (aws kms get-key-policy, put-key-policy) before anything is notified.
{{else}}# Where topic or queue are encrypted with a KMS key, its policy needs these
# statements, and the role kms:Decrypt on it (--message-kms-key).
{{end}}: <<'JSON'
{{.KeyPolicy}}
JSON

# The topic, and that the bucket may publish to it.
aws sns create-topic --name {{quote .TopicName}}
aws sns set-topic-attributes --topic-arn {{quote .TopicARN}} --attribute-name Policy --attribute-value "$(cat <<'JSON'
{{.TopicPolicy}}
JSON
)"
{{- if .MessageKey}}
aws sns set-topic-attributes --topic-arn {{quote .TopicARN}} --attribute-name KmsMasterKeyId --attribute-value {{quote .MessageKey}}
{{- end}}
{{if .QueueIsElsewhere}}
# The queue is in another account or region. Its owner lets the topic send, with
# this policy of the queue:
: <<'JSON'
{{.QueuePolicy}}
JSON
{{else}}
# The queue, and that the topic may send to it.
aws sqs create-queue --queue-name {{quote .QueueName}}
existing="$(aws sqs get-queue-attributes --queue-url {{quote .QueueURL}} --attribute-names Policy --output json)"
case "$existing" in
*Policy*{{quote .TopicARN}}*) ;;
*Policy*)
  echo "the queue has a policy of its own; add to it what lets {{.TopicARN}} send" >&2
  exit 1
  ;;
esac
aws sqs set-queue-attributes --queue-url {{quote .QueueURL}} --attributes "$(cat <<'JSON'
{{.QueueAttributes}}
JSON
)"
{{end}}
{{- if .QueueAccount}}
# The owner also subscribes the queue, when the topic is there: from any account
# but the queue's it would have to be confirmed. With keys of account {{comment .QueueAccount}}:
#   aws sns subscribe --region {{.Region}} --topic-arn {{.TopicARN}} \
#     --protocol sqs --notification-endpoint {{comment .QueueARN}} --attributes RawMessageDelivery=true
{{else}}
aws sns subscribe --topic-arn {{quote .TopicARN}} --protocol sqs --notification-endpoint {{quote .QueueARN}} \
  --attributes RawMessageDelivery=true
{{end}}
# The role: who takes it, and the least it may do.
trust="$(cat <<'JSON'
{{.TrustPolicy}}
JSON
)"
aws iam get-role --role-name {{quote .RoleName}} >/dev/null 2>&1 ||
  aws iam create-role --role-name {{quote .RoleName}}{{if ne .RolePath "/"}} --path {{quote .RolePath}}{{end}} --assume-role-policy-document "$trust"
aws iam update-assume-role-policy --role-name {{quote .RoleName}} --policy-document "$trust"
aws iam put-role-policy --role-name {{quote .RoleName}} --policy-name {{quote .PolicyName}} --policy-document "$(cat <<'JSON'
{{.RolePolicy}}
JSON
)"

# The bucket's notifications, last: S3 tests the topic with a message. They are
# one document for each bucket, here of all its sources in the configuration; it
# is not put in the place of one that holds others, too.
notification="$(cat <<'JSON'
{{.Notification}}
JSON
)"
existing="$(aws s3api get-bucket-notification-configuration --bucket {{quote .Source.Bucket}} --output json)"
others="$(printf '%s\n' "$existing" | grep -oE '"Id": *"[^"]*"|"EventBridgeConfiguration"' | sed 's/^"Id": *//' |
  grep -vxF{{range .OwnNotifications}} -e {{quote .}}{{end}})" || true
if [ -n "$others" ]; then
  echo "the bucket has other notifications:" $others >&2
  echo "add this to them (aws s3api put-bucket-notification-configuration):" >&2
  echo "$notification" >&2
  exit 1
fi
aws s3api put-bucket-notification-configuration --bucket {{quote .Source.Bucket}} --notification-configuration "$notification"

# In auditstream.yaml, at the source:
#   role: {arn: "{{.RoleARN}}", externalID: "{{comment .ExternalID}}"}
#   queue: {url: "{{.QueueURL}}"}
`))
