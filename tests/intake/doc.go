// Package intake tests the way from a bucket's notifications to the topic
// `raw` against an AWS emulator: S3 to SNS to SQS, S3 to SQS, roles by STS.
package intake
