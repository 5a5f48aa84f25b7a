# Account 111122223333, region eu-central-1. One call is for all sources there, as the topic is: what is
# printed for another bucket goes into its sources. Bucket notifications are a whole
# for each bucket: see the module's manage_bucket_notifications when it has others.
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
  topic_prefix        = "auditstream_"
  role_name           = "auditstream-production"
  principal_arns      = ["arn:aws:iam::111122223333:root"]
  external_id         = "0123abcd"
  message_kms_key_arn = "arn:aws:kms:eu-central-1:111122223333:key/0a1b"
}
