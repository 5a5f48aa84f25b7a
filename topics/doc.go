// Package topics is the contract between the stages: the Kafka topics,
// their settings, and the encoding of each one's records.
//
//	objects     one record per S3 object, or per next slice of a large one (JSON)
//	raw         one record per line (the line's bytes, position in headers)
//	normalized  one record per audit event (Protocol Buffers, normalized.proto)
//	deadletter  what could not be processed, and why (original bytes, headers)
//	ledger      of each object how many lines it has and what became of those that
//	            are not one row each (JSON)
//
// A stage knows the others only through this package.
package topics
