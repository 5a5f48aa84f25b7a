package split

import (
	"time"
)

// staleAfter is when a stream that no link has come for gives up its place to
// one that is needed. Its link is far back in a long queue, or was lost with an
// aborted transaction.
const staleAfter = 10 * time.Minute

// streams are the large objects kept open between two links of their chains.
// Without them every link of a compressed object would read it from its start.
//
// A stream is only ever a shortcut: what it knows is in its link, and losing
// it costs time. Places are few, and an object without one is postponed
// rather than begun: with a thousand giants in the queue, a few make progress
// instead of all being read from the start again and again.
type streams struct {
	most    int
	metrics *Metrics

	parked map[streamKey]*parkedStream
	taken  int // places held by streams in use
	// moved are those parked since the last commit. Their links are not durable
	// yet: after an abort they stand ahead of the log.
	moved []*stream
}

type parkedStream struct {
	*stream
	since time.Time
}

func newStreams(most int, m *Metrics) *streams {
	return &streams{most: most, metrics: m, parked: make(map[streamKey]*parkedStream)}
}

// take hands out the stream that stands at key, and its place with it.
func (s *streams) take(key streamKey) *stream {
	p := s.parked[key]
	if p == nil {
		return nil
	}
	delete(s.parked, key)
	s.taken++
	return p.stream
}

// reserve takes a place for a stream yet to be opened.
func (s *streams) reserve() bool {
	if len(s.parked)+s.taken >= s.most && !s.evictStale() {
		return false
	}
	s.taken++
	return true
}

func (s *streams) evictStale() bool {
	var oldest *parkedStream
	for _, p := range s.parked {
		if oldest == nil || p.since.Before(oldest.since) {
			oldest = p
		}
	}
	if oldest == nil || time.Since(oldest.since) < staleAfter {
		return false
	}
	delete(s.parked, oldest.key)
	oldest.close()
	return true
}

// release gives a place back.
func (s *streams) release() { s.taken-- }

// park keeps a stream, on the place that was reserved for it, until its link
// comes.
func (s *streams) park(st *stream) {
	s.taken--
	if twin := s.parked[st.key]; twin != nil {
		twin.close() // the same object announced again after the horizon
	}
	s.parked[st.key] = &parkedStream{st, time.Now()}
	s.moved = append(s.moved, st)
	s.metrics.openObjects.Set(float64(len(s.parked)))
}

// isParked tells whether a stream waits for its link.
func (s *streams) isParked() bool { return len(s.parked) > 0 }

// committed: the links of what was parked are in the log.
func (s *streams) committed() { s.moved = s.moved[:0] }

// aborted: they are not.
func (s *streams) aborted() {
	for _, st := range s.moved {
		if p := s.parked[st.key]; p != nil && p.stream == st {
			delete(s.parked, st.key)
			st.close()
		}
	}
	s.moved = s.moved[:0]
	s.metrics.openObjects.Set(float64(len(s.parked)))
}

// drop closes the streams of a partition, or of all when it is below zero.
func (s *streams) drop(partition int32) {
	for key, p := range s.parked {
		if partition < 0 || p.partition == partition {
			delete(s.parked, key)
			p.close()
		}
	}
	s.metrics.openObjects.Set(float64(len(s.parked)))
}
