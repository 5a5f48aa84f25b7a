// Package sink is the last stage: the topic `normalized` → rows in ClickHouse,
// each exactly once.
//
// Kafka's offsets and ClickHouse's table can't change together, so the sink
// writes down what it is about to do before it does it. Each assigned
// partition has one worker; each batch goes through the same durable steps, in
// deliver (worker.go):
//
//	choose    offsets [from, to) and the ids of their rows
//	intend    commit offset `from`, with the intent as its metadata (intent.go)
//	insert    all rows as one block in one INSERT, under a token made from the intent
//	commit    offset `to`, with the next intent if a next batch is ready
//
// A first attempt that the server acknowledged, and did not call a duplicate,
// is done. Everything else — an intent found open, an unknown outcome, a
// reported duplicate — is settled by looking which of the ids are in the table
// (settle.go). The token alone is no proof: MergeTree writes it down before the
// part exists, so after a crash of the server it may drop a retry of rows that
// are not there.
//
// A worker dies with its assignment: the callbacks that take a partition away
// return when its worker has stopped, so nothing of an old assignment can
// commit. Where the client goes on under another member id without such a
// callback, the id that each commit is made for takes its place. What a dead worker leaves behind is at most one intent, and the next
// owner begins with it.
package sink
