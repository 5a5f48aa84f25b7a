#!/bin/sh
# What source production needs in account 111122223333, region eu-central-1:
#   topic  arn:aws:sns:eu-central-1:111122223333:auditstream_kubernetes_audit
#   queue  arn:aws:sqs:eu-central-1:444455556666:theirs
#   role   arn:aws:iam::111122223333:role/auditstream-production
# For the AWS command line, with rights to make these; it can be run again.
set -eu
# Version 1 of the command reads AWS_DEFAULT_REGION, version 2 has a pager.
export AWS_REGION=eu-central-1 AWS_DEFAULT_REGION=eu-central-1 AWS_PAGER=
account="$(aws sts get-caller-identity --query Account --output text)"
test "$account" = 111122223333 ||
  { echo "these are keys of account $account, not of 111122223333" >&2; exit 1; }

# Where topic or queue are encrypted with a KMS key, its policy needs these
# statements, and the role kms:Decrypt on it (--message-kms-key).
: <<'JSON'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "BucketsEncryptForTheTopic",
      "Effect": "Allow",
      "Principal": {
        "Service": "s3.amazonaws.com"
      },
      "Action": [
        "kms:GenerateDataKey*",
        "kms:Decrypt"
      ],
      "Resource": "*",
      "Condition": {
        "ArnLike": {
          "aws:SourceArn": [
            "arn:aws:s3:::*"
          ]
        },
        "StringEquals": {
          "aws:SourceAccount": [
            "111122223333"
          ]
        }
      }
    },
    {
      "Sid": "TopicEncryptsForTheQueue",
      "Effect": "Allow",
      "Principal": {
        "Service": "sns.amazonaws.com"
      },
      "Action": [
        "kms:GenerateDataKey*",
        "kms:Decrypt"
      ],
      "Resource": "*",
      "Condition": {
        "ArnEquals": {
          "aws:SourceArn": [
            "arn:aws:sns:eu-central-1:111122223333:auditstream_kubernetes_audit"
          ]
        }
      }
    }
  ]
}
JSON

# The topic, and that the bucket may publish to it.
aws sns create-topic --name auditstream_kubernetes_audit
aws sns set-topic-attributes --topic-arn arn:aws:sns:eu-central-1:111122223333:auditstream_kubernetes_audit --attribute-name Policy --attribute-value "$(cat <<'JSON'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "BucketsNotify",
      "Effect": "Allow",
      "Principal": {
        "Service": "s3.amazonaws.com"
      },
      "Action": [
        "sns:Publish"
      ],
      "Resource": "arn:aws:sns:eu-central-1:111122223333:auditstream_kubernetes_audit",
      "Condition": {
        "ArnLike": {
          "aws:SourceArn": [
            "arn:aws:s3:::*"
          ]
        },
        "StringEquals": {
          "aws:SourceAccount": [
            "111122223333"
          ]
        }
      }
    },
    {
      "Sid": "QueueOwnerSubscribes",
      "Effect": "Allow",
      "Principal": {
        "AWS": "arn:aws:iam::444455556666:root"
      },
      "Action": [
        "sns:Subscribe"
      ],
      "Resource": "arn:aws:sns:eu-central-1:111122223333:auditstream_kubernetes_audit",
      "Condition": {
        "StringEquals": {
          "sns:Endpoint": [
            "arn:aws:sqs:eu-central-1:444455556666:theirs"
          ],
          "sns:Protocol": [
            "sqs"
          ]
        }
      }
    }
  ]
}
JSON
)"

# The queue is in another account or region. Its owner lets the topic send, with
# this policy of the queue:
: <<'JSON'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "TopicSends",
      "Effect": "Allow",
      "Principal": {
        "Service": "sns.amazonaws.com"
      },
      "Action": [
        "sqs:SendMessage"
      ],
      "Resource": "arn:aws:sqs:eu-central-1:444455556666:theirs",
      "Condition": {
        "ArnEquals": {
          "aws:SourceArn": [
            "arn:aws:sns:eu-central-1:111122223333:auditstream_kubernetes_audit"
          ]
        }
      }
    }
  ]
}
JSON

# The owner also subscribes the queue, when the topic is there: from any account
# but the queue's it would have to be confirmed. With keys of account 444455556666:
#   aws sns subscribe --region eu-central-1 --topic-arn arn:aws:sns:eu-central-1:111122223333:auditstream_kubernetes_audit \
#     --protocol sqs --notification-endpoint arn:aws:sqs:eu-central-1:444455556666:theirs --attributes RawMessageDelivery=true

# The role: who takes it, and the least it may do.
trust="$(cat <<'JSON'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Principal": {
        "AWS": "arn:aws:iam::111122223333:root"
      },
      "Action": [
        "sts:AssumeRole"
      ],
      "Condition": {
        "StringEquals": {
          "sts:ExternalId": [
            "0123abcd"
          ]
        }
      }
    }
  ]
}
JSON
)"
aws iam get-role --role-name auditstream-production >/dev/null 2>&1 ||
  aws iam create-role --role-name auditstream-production --assume-role-policy-document "$trust"
aws iam update-assume-role-policy --role-name auditstream-production --policy-document "$trust"
aws iam put-role-policy --role-name auditstream-production --policy-name auditstream-production --policy-document "$(cat <<'JSON'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "List",
      "Effect": "Allow",
      "Action": [
        "s3:ListBucket"
      ],
      "Resource": "arn:aws:s3:::audit-logs"
    },
    {
      "Sid": "Get",
      "Effect": "Allow",
      "Action": [
        "s3:GetObject",
        "s3:GetObjectVersion"
      ],
      "Resource": "arn:aws:s3:::audit-logs/*"
    },
    {
      "Sid": "Receive",
      "Effect": "Allow",
      "Action": [
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes"
      ],
      "Resource": "arn:aws:sqs:eu-central-1:444455556666:theirs"
    },
    {
      "Sid": "Decrypt",
      "Effect": "Allow",
      "Action": [
        "kms:Decrypt"
      ],
      "Resource": "arn:aws:kms:eu-central-1:111122223333:key/*",
      "Condition": {
        "StringEquals": {
          "kms:ViaService": [
            "s3.eu-central-1.amazonaws.com"
          ]
        }
      }
    }
  ]
}
JSON
)"

# The bucket's notifications, last: S3 tests the topic with a message. They are
# one document for each bucket, here of all its sources in the configuration; it
# is not put in the place of one that holds others, too.
notification="$(cat <<'JSON'
{
  "TopicConfigurations": [
    {
      "Id": "auditstream-production",
      "TopicArn": "arn:aws:sns:eu-central-1:111122223333:auditstream_kubernetes_audit",
      "Events": [
        "s3:ObjectCreated:*"
      ]
    }
  ]
}
JSON
)"
existing="$(aws s3api get-bucket-notification-configuration --bucket audit-logs --output json)"
others="$(printf '%s\n' "$existing" | grep -oE '"Id": *"[^"]*"|"EventBridgeConfiguration"' | sed 's/^"Id": *//' |
  grep -vxF -e '"auditstream-production"')" || true
if [ -n "$others" ]; then
  echo "the bucket has other notifications:" $others >&2
  echo "add this to them (aws s3api put-bucket-notification-configuration):" >&2
  echo "$notification" >&2
  exit 1
fi
aws s3api put-bucket-notification-configuration --bucket audit-logs --notification-configuration "$notification"

# In auditstream.yaml, at the source:
#   role: {arn: "arn:aws:iam::111122223333:role/auditstream-production", externalID: "0123abcd"}
#   queue: {url: "https://sqs.eu-central-1.amazonaws.com/444455556666/theirs"}
