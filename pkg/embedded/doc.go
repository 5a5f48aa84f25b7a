// Package embedded runs the three systems around the pipeline without an
// installation: a Kafka broker (kfake, in this process), the real ClickHouse
// engine and an S3 server over a folder (each a child process). `up`, the demo
// and the tests use it for whatever their configuration does not name; in
// production nothing of it runs.
//
// The children are this same executable, started again: RunChildIfAsked must
// therefore be the first thing in main and in every TestMain that starts one.
// A child's life hangs on a pipe whose other end only the parent holds, so it
// ends with its parent however that ends, SIGKILL included.
//
// The build tag noembedded leaves the ClickHouse library loader and the S3
// server out, which gives a static binary; StartClickHouse then needs a
// clickhouse binary, and StartS3 says that it is not there.
package embedded
