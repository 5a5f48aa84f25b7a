data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

# Names, not what is made of them, so that every policy can be read in the plan.
locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id

  topic_name = "${var.topic_prefix}${replace(var.source_type, "-", "_")}"
  topic_arn  = "arn:${local.partition}:sns:${local.region}:${local.account}:${local.topic_name}"

  queue_name    = var.queue_name != null ? var.queue_name : local.topic_name
  queue_arn     = var.queue_arn != null ? var.queue_arn : "arn:${local.partition}:sqs:${local.region}:${local.account}:${local.queue_name}"
  queue_account = split(":", local.queue_arn)[4]

  buckets = toset([for source in var.sources : source.bucket])
}

# The one topic for all sources of the type, to which the account's buckets, and
# nobody's else, may publish. Whoever has the queue in another account subscribes it.
resource "aws_sns_topic" "this" {
  name              = local.topic_name
  kms_master_key_id = var.message_kms_key_arn
  tags              = var.tags
}

data "aws_iam_policy_document" "topic" {
  statement {
    sid       = "BucketsNotify"
    actions   = ["sns:Publish"]
    resources = [local.topic_arn]

    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:s3:::*"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }

  dynamic "statement" {
    for_each = local.queue_account != local.account ? [local.queue_account] : []

    content {
      sid       = "QueueOwnerSubscribes"
      actions   = ["sns:Subscribe"]
      resources = [local.topic_arn]

      principals {
        type        = "AWS"
        identifiers = ["arn:${local.partition}:iam::${statement.value}:root"]
      }

      condition {
        test     = "StringEquals"
        variable = "sns:Protocol"
        values   = ["sqs"]
      }

      condition {
        test     = "StringEquals"
        variable = "sns:Endpoint"
        values   = [local.queue_arn]
      }
    }
  }
}

resource "aws_sns_topic_policy" "this" {
  arn    = aws_sns_topic.this.arn
  policy = data.aws_iam_policy_document.topic.json
}

# The queue that auditstream receives from.
resource "aws_sqs_queue" "this" {
  count = var.queue_arn == null ? 1 : 0

  name                      = local.queue_name
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = var.message_kms_key_arn == null ? true : null
  kms_master_key_id         = var.message_kms_key_arn
  tags                      = var.tags
}

data "aws_iam_policy_document" "queue" {
  statement {
    sid       = "TopicSends"
    actions   = ["sqs:SendMessage"]
    resources = [local.queue_arn]

    principals {
      type        = "Service"
      identifiers = ["sns.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [local.topic_arn]
    }
  }
}

# What the key of topic and queue has to allow; its policy is the owner's.
data "aws_iam_policy_document" "key" {
  statement {
    sid       = "BucketsEncryptForTheTopic"
    actions   = ["kms:GenerateDataKey*", "kms:Decrypt"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:s3:::*"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }

  statement {
    sid       = "TopicEncryptsForTheQueue"
    actions   = ["kms:GenerateDataKey*", "kms:Decrypt"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["sns.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [local.topic_arn]
    }
  }
}

resource "aws_sqs_queue_policy" "this" {
  count = var.queue_arn == null ? 1 : 0

  queue_url = aws_sqs_queue.this[0].id
  policy    = data.aws_iam_policy_document.queue.json
}

# Only the account of the queue can subscribe it without a confirmation.
resource "aws_sns_topic_subscription" "this" {
  count = local.queue_account == local.account ? 1 : 0

  topic_arn            = aws_sns_topic.this.arn
  protocol             = "sqs"
  endpoint             = local.queue_arn
  raw_message_delivery = true

  depends_on = [aws_sqs_queue_policy.this]
}

# S3 tests the topic when this is made.
resource "aws_s3_bucket_notification" "this" {
  for_each = var.manage_bucket_notifications ? local.buckets : toset([])

  bucket = each.value

  dynamic "topic" {
    for_each = { for id, source in var.sources : id => source if source.bucket == each.value }

    content {
      id            = "auditstream-${topic.key}"
      topic_arn     = aws_sns_topic.this.arn
      events        = topic.value.events
      filter_prefix = topic.value.prefix != "" ? topic.value.prefix : null
      filter_suffix = topic.value.suffix != "" ? topic.value.suffix : null
    }
  }

  depends_on = [aws_sns_topic_policy.this, aws_sns_topic_subscription.this]
}

# The role: who takes it, and the least it may do.
data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "AWS"
      identifiers = var.principal_arns
    }

    condition {
      test     = "StringEquals"
      variable = "sts:ExternalId"
      values   = [var.external_id]
    }
  }
}

resource "aws_iam_role" "this" {
  name               = var.role_name
  path               = var.role_path
  assume_role_policy = data.aws_iam_policy_document.trust.json
  tags               = var.tags
}

data "aws_iam_policy_document" "role" {
  dynamic "statement" {
    for_each = var.sources

    content {
      actions   = ["s3:ListBucket"]
      resources = ["arn:${local.partition}:s3:::${statement.value.bucket}"]

      dynamic "condition" {
        for_each = statement.value.prefix != "" ? [statement.value.prefix] : []

        content {
          test     = "StringLike"
          variable = "s3:prefix"
          values   = ["${condition.value}*"]
        }
      }
    }
  }

  statement {
    sid       = "Get"
    actions   = ["s3:GetObject", "s3:GetObjectVersion"]
    resources = [for source in var.sources : "arn:${local.partition}:s3:::${source.bucket}/${source.prefix}*"]
  }

  statement {
    sid       = "Receive"
    actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
    resources = [local.queue_arn]
  }

  statement {
    sid       = "Decrypt"
    actions   = ["kms:Decrypt"]
    resources = length(var.kms_key_arns) > 0 ? var.kms_key_arns : ["arn:${local.partition}:kms:${local.region}:${local.account}:key/*"]

    dynamic "condition" {
      for_each = length(var.kms_key_arns) > 0 ? [] : [data.aws_partition.current.dns_suffix]

      content {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["s3.${local.region}.${condition.value}"]
      }
    }
  }

  dynamic "statement" {
    for_each = var.message_kms_key_arn != null ? [var.message_kms_key_arn] : []

    content {
      sid       = "DecryptMessages"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "this" {
  name   = "auditstream"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.role.json
}
