// Package split is the second half of the fetcher: it takes the records of the
// topic `objects`, reads the S3 objects they name and produces their lines to
// `raw`, in Kafka transactions.
package split
