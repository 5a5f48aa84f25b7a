# Account 111122223333, region eu-central-1. One call is for all sources there, as the topic is: what is
# printed for another bucket goes into its sources. Bucket notifications are a whole
# for each bucket: see the module's manage_bucket_notifications when it has others.
# The queue is account 444455556666's, which lets the topic send (output queue_policy) and
# subscribes the queue: aws_sns_topic_subscription, raw_message_delivery = true.
module "auditstream" {
  source = "github.com/auditstream/auditstream//deploy/terraform"

  sources = {
    production = {
      bucket = "audit-logs"
      events = ["s3:ObjectCreated:*"]
      prefix = ""
      suffix = ""
    }
  }
  topic_prefix   = "auditstream_"
  role_name      = "auditstream-production"
  principal_arns = ["arn:aws:iam::111122223333:root"]
  external_id    = "0123abcd"
  queue_arn      = "arn:aws:sqs:eu-central-1:444455556666:theirs"
}
