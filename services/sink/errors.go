package sink

import "fmt"

// GapError is a range of records that can't be read any more and was not
// inserted for certain. Its partition stops, unless gaps are accepted.
type GapError struct {
	Topic     string
	Partition int32
	From, To  int64 // [From, To)
	Reason    string
	// Differs: nothing is missing, but the range that was read again gives other
	// rows than those intended.
	Differs bool
}

func (e *GapError) Error() string {
	return fmt.Sprintf("%s/%d [%d,%d): %s (kafka.acceptGap goes on without them)", e.Topic, e.Partition, e.From, e.To, e.Reason)
}

// BatchError is a batch that the server refuses until someone mends the table
// or the user's rights. It is tried again by itself.
type BatchError struct {
	Topic     string
	Partition int32
	From, To  int64 // [From, To)
	Step      string
	Err       error
}

func (e *BatchError) Error() string {
	return fmt.Sprintf("%s %s/%d [%d,%d): %v", e.Step, e.Topic, e.Partition, e.From, e.To, e.Err)
}

func (e *BatchError) Unwrap() error { return e.Err }

// TargetError is an open intent for another table than the partition's rows go
// to by now. Only there can be seen which of its rows are in already.
type TargetError struct {
	Topic       string
	Partition   int32
	From, To    int64  // [From, To)
	Target, Own string // <shard>/<database>.<table>
}

func (e *TargetError) Error() string {
	return fmt.Sprintf("%s/%d [%d,%d): the open intent is for %s (shard/table), this sink writes the partition to %s:"+
		" put clickhouse.shards, database and table back to what they were and let the sink run until"+
		" it has come to its end with SIGTERM and exit code 0; no intent is open then, and they can be changed",
		e.Topic, e.Partition, e.From, e.To, e.Target, e.Own)
}

// OpenError is what a process leaves behind that had to end before a batch
// was in. Nothing is lost: the next owner settles it.
type OpenError struct{ Partitions []int32 }

func (e *OpenError) Error() string {
	return fmt.Sprintf("stopped before the batches of partitions %v were confirmed; their intents stay open for the next owner", e.Partitions)
}
