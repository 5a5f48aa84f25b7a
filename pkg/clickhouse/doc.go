// Package clickhouse is the sink's side of the table: how to connect, what the
// table looks like (DDL, check, diff), how a batch goes in as one columnar
// block under a deduplication token, and how to ask which rows are there.
//
// It knows the table and nothing of Kafka; which rows go in, under which token
// and when to ask is the sink's protocol.
package clickhouse
