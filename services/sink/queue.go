package sink

import (
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// fetcher is what the flow holds back.
type fetcher interface {
	PauseFetchPartitions(map[string][]int32) map[string][]int32
	ResumeFetchPartitions(map[string][]int32)
}

// flow bounds what all partitions of a shard hold in memory, from the poll to the commit,
// by not fetching what there is no room for. Nothing is dropped.
//
// It can't stand still: what a partition holds is a batch under way, which ends,
// an open batch, which closes by age, or the range of an open intent, which must
// be whole before it can go in. Of the last kind one at a time, the lowest, is
// fetched even beyond the limit; when it is done the next has its turn. So memory
// exceeds the limit by no more than one batch and one fetch.
type flow struct {
	client    fetcher
	topic     string
	limit     int64
	partition int64 // one partition's share: what it may hold beyond the batch under way

	mu     sync.Mutex
	used   int64
	queues map[int32]*queue
}

func newFlow(client fetcher, topic string, limit, partition int64) *flow {
	return &flow{client: client, topic: topic, limit: limit, partition: partition, queues: make(map[int32]*queue)}
}

// queue is the records of one partition between the poll and its worker. The
// poll loop pushes, the worker takes and releases.
type queue struct {
	flow      *flow
	number    int32
	arrived   chan struct{} // holds one token when there is something to see
	held      int64         // bytes from push to release
	waiting   []arrival
	next      int64 // the offset after the last one pushed
	waits     bool  // its worker has not begun, and nothing is fetched
	recovers  bool  // its worker waits for the range of an open intent
	paused    bool
	closed    bool
	closedErr error
}

type arrival struct {
	records []*kgo.Record
	at      time.Time
}

// open makes a partition's queue, from offset next on. Nothing is fetched before
// begin.
func (f *flow) open(partition int32, next int64, recovers bool) *queue {
	q := &queue{flow: f, number: partition, arrived: make(chan struct{}, 1), next: next, waits: true, recovers: recovers}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queues[partition] = q
	// An earlier assignment may have left it paused.
	f.client.ResumeFetchPartitions(map[string][]int32{f.topic: {partition}})
	f.balance()
	return q
}

// begin lets the partition be fetched.
func (q *queue) begin() {
	q.flow.mu.Lock()
	defer q.flow.mu.Unlock()
	q.waits = false
	q.flow.balance()
}

// drop gives up what the partition holds and fetches no more of it.
func (q *queue) drop() {
	q.flow.mu.Lock()
	defer q.flow.mu.Unlock()
	q.flow.used -= q.held
	q.held, q.waiting = 0, nil
	q.closed = true
	q.flow.balance()
}

// forget ends a partition that has been taken away.
func (q *queue) forget() {
	q.drop()
	q.flow.mu.Lock()
	defer q.flow.mu.Unlock()
	if q.flow.queues[q.number] == q {
		delete(q.flow.queues, q.number)
	}
}

// push adds records; those of a partition that has ended are let go.
func (q *queue) push(records []*kgo.Record, at time.Time) {
	if len(records) == 0 {
		return
	}
	q.flow.mu.Lock()
	defer q.flow.mu.Unlock()
	if q.closed {
		return
	}
	var bytes int64
	for _, record := range records {
		bytes += costOf(record)
	}
	q.waiting = append(q.waiting, arrival{records, at})
	q.next = records[len(records)-1].Offset + 1
	q.held += bytes
	q.flow.used += bytes
	q.flow.balance()
	q.wake()
}

// close tells the worker that no more records come, and why. What was pushed
// before is still taken.
func (q *queue) close(err error) {
	q.flow.mu.Lock()
	defer q.flow.mu.Unlock()
	if q.closed {
		return
	}
	q.closed, q.closedErr = true, err
	q.flow.balance()
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.arrived <- struct{}{}:
	default:
	}
}

// take returns what has arrived, and the reason when nothing will any more.
func (q *queue) take() ([]arrival, error) {
	q.flow.mu.Lock()
	defer q.flow.mu.Unlock()
	waiting := q.waiting
	q.waiting = nil
	if len(waiting) == 0 {
		return nil, q.closedErr
	}
	return waiting, nil
}

// release gives bytes back when their batch is done.
func (q *queue) release(bytes int64) {
	q.flow.mu.Lock()
	defer q.flow.mu.Unlock()
	bytes = min(bytes, q.held) // dropped meanwhile
	q.held -= bytes
	q.flow.used -= bytes
	q.flow.balance()
}

// recovered ends the exemption of an open intent's range.
func (q *queue) recovered() {
	q.flow.mu.Lock()
	defer q.flow.mu.Unlock()
	q.recovers = false
	q.flow.balance()
}

func (q *queue) nextOffset() int64 {
	q.flow.mu.Lock()
	defer q.flow.mu.Unlock()
	return q.next
}

// bytes are all that is held.
func (f *flow) bytes() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used
}

// balance pauses and resumes so that the client fetches what there is room
// for. f.mu is held; the client's pause set has a lock of its own and calls
// nothing back.
func (f *flow) balance() {
	first := int32(-1)
	for number, q := range f.queues {
		if q.recovers && !q.waits && !q.closed && (first < 0 || number < first) {
			first = number
		}
	}
	var pause, resume []int32
	for number, q := range f.queues {
		full := f.used >= f.limit && number != first
		if !q.recovers {
			// With a margin, so that it is not switched at every record.
			share := f.partition
			if q.paused {
				share /= 2
			}
			full = full || q.held >= share
		}
		switch want := q.closed || q.waits || full; {
		case want && !q.paused:
			pause = append(pause, number)
			q.paused = true
		case !want && q.paused:
			resume = append(resume, number)
			q.paused = false
		}
	}
	if pause != nil {
		f.client.PauseFetchPartitions(map[string][]int32{f.topic: pause})
	}
	if resume != nil {
		f.client.ResumeFetchPartitions(map[string][]int32{f.topic: resume})
	}
}
