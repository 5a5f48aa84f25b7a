// Package topics is the contract between the stages: the four Kafka topics,
// their settings, and the encoding of each one's records.
//
//	objects     one record per S3 object, or per next slice of a large one (JSON)
//	raw         one record per line (the line's bytes, position in headers)
//	normalized  one record per audit event (Protocol Buffers, normalized.proto)
//	deadletter  what could not be processed, and why (original bytes, headers)
//
// A stage knows the others only through this package.
package topics
