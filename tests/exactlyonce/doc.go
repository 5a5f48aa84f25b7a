// Package exactlyonce holds the tests of the whole promise: real processes of
// each stage, killed in the middle of their work, and the set of row ids in
// ClickHouse compared with the set of lines put into S3.
package exactlyonce
