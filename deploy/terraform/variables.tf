variable "sources" {
  description = "Sources by their id in auditstream.yaml: buckets of this account and region, and which of their objects. Buckets by names that are known before anything is made: aws_s3_bucket's bucket, not its id."
  type = map(object({
    bucket = string
    prefix = optional(string, "")
    suffix = optional(string, "")
    events = optional(list(string), ["s3:ObjectCreated:*"])
  }))

  validation {
    condition     = length(var.sources) > 0
    error_message = "There has to be a source."
  }
}

variable "source_type" {
  description = "Type of the sources; there is one topic for each, its hyphens as underscores."
  type        = string
  default     = "kubernetes-audit"
}

variable "topic_prefix" {
  description = "What the topic's name begins with."
  type        = string
  default     = "auditstream_"
}

variable "queue_name" {
  description = "Name of the queue; null: the topic's."
  type        = string
  default     = null
}

variable "queue_arn" {
  description = "ARN, known before anything is made, of a queue that is there already, here or elsewhere. Its owner lets the topic send to it (output queue_policy) and, in another account, subscribes it from there: aws_sns_topic_subscription with raw_message_delivery. Null: one is made."
  type        = string
  default     = null
}

variable "role_name" {
  description = "Name of the role that auditstream takes."
  type        = string
  default     = "auditstream"
}

variable "role_path" {
  description = "Path of the role's name."
  type        = string
  default     = "/"
}

variable "principal_arns" {
  description = "Who may take the role."
  type        = list(string)
}

variable "external_id" {
  description = "External id of the role: role.externalID of the sources in auditstream.yaml."
  type        = string

  validation {
    condition     = length(var.external_id) >= 2
    error_message = "An external id has at least two characters."
  }
}

variable "kms_key_arns" {
  description = "Keys that objects are encrypted with; empty: any of this account, by way of S3."
  type        = list(string)
  default     = []
}

variable "message_kms_key_arn" {
  description = "Key that topic and queue are encrypted with; its policy has to hold the statements of the output key_policy. Null: SQS's own for the queue, none for the topic."
  type        = string
  default     = null
}

variable "manage_bucket_notifications" {
  description = "Whether the buckets' notifications are this module's. They are one document for each bucket: false when a bucket has others, which then also have to name the topic."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}
