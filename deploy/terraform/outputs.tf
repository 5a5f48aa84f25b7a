output "topic_arn" {
  description = "The topic that buckets notify."
  value       = aws_sns_topic.this.arn
}

output "queue_url" {
  description = "queue.url of the sources; null when the queue was there already."
  value       = var.queue_arn == null ? aws_sqs_queue.this[0].url : null
}

output "queue_policy" {
  description = "What lets the topic send: the queue's owner needs it when the queue was there already."
  value       = data.aws_iam_policy_document.queue.json
}

output "key_policy" {
  description = "What the policy of a key has to allow, beside what it does, when topic or queue are encrypted with it."
  value       = data.aws_iam_policy_document.key.json
}

output "role_arn" {
  description = "role.arn of the sources."
  value       = aws_iam_role.this.arn
}
