package verify

import (
	"time"

	"github.com/auditstream/auditstream/topics"
)

// Key is where an object's rows and entries are: the sorting keys of both tables
// begin with it.
type Key struct {
	Workspace, Source string
	ReceivedAt        uint32 // seconds
	Object            string // id
}

// sums are what is compared of an object's rows: how many, and the sum of the
// hash of each one's line and event.
type sums struct{ rows, hash uint64 }

// eventBits of the number that is hashed are the event's, those above the line's.
const eventBits = 20

// hashOf is ClickHouse's intHash64 of a line and event.
func hashOf(line int64, event int) uint64 {
	x := uint64(line)<<eventBits + uint64(event) //nolint:gosec // neither is negative
	x ^= 0x4CF2D2BAAE6DA887
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// hashes sums up hashes of runs of lines.
type hashes struct{ upTo []uint64 } // the sum of the lines up to each

// mostHashes bounds what is kept.
const mostHashes = 1 << 20

func (h *hashes) through(line int64) (sum uint64) {
	for n := int64(len(h.upTo)); n <= min(line, mostHashes); n++ {
		if n > 0 {
			sum = h.upTo[n-1] + hashOf(n, 0)
		}
		h.upTo = append(h.upTo, sum)
	}
	if line <= mostHashes {
		return h.upTo[line]
	}
	sum = h.upTo[mostHashes]
	for n := int64(mostHashes) + 1; n <= line; n++ {
		sum += hashOf(n, 0)
	}
	return sum
}

func (h *hashes) of(lines Ranges) (sum uint64) {
	for _, part := range lines {
		sum += h.through(part[1]) - h.through(part[0]-1)
	}
	return sum
}

// entry is an entry of the ledger that is about one object.
type entry struct {
	key         Key
	id          string
	kind        topics.LedgerKind
	generation  uint32
	first, last int64
	outcome     topics.LedgerOutcome
	reason      string
	ranges      []topics.LineRange
	rows        int64
	bucket, s3  string // and key
	bytes       uint64
}

func (e *entry) uri() string { return "s3://" + e.bucket + "/" + e.s3 }

// expected is what the ledger says of an object.
type expected struct {
	runs       int
	generation uint32
	uri        string
	letter     *entry // of the object itself, if its last run ended so

	fetched Ranges // its lines
	dead    Ranges // those with a dead letter; some may have rows, too
	skipped Ranges
	several []several // those with several rows, or with rows beside dead letters
	mixed   bool      // which events of a line are rows is not known of all
}

type several struct {
	lines Ranges
	rows  int64
}

func expect(entries []entry) expected {
	var e expected
	var fetched, dead, skipped []topics.LineRange
	seen := make(map[string]bool, len(entries))
	var last *entry
	for i := range entries {
		one := &entries[i]
		if seen[one.id] {
			continue // the same row twice, before the table has collapsed it
		}
		seen[one.id] = true
		switch {
		case one.kind == topics.LedgerObject:
			e.runs++
			e.generation = max(e.generation, one.generation)
			fetched = append(fetched, topics.LineRange{one.first, one.last})
			if last == nil || one.generation >= last.generation {
				last = one
			}
		case one.outcome == topics.OutcomeSkip:
			skipped = append(skipped, one.ranges...)
		case one.outcome == topics.OutcomeDeadLetter:
			dead = append(dead, one.ranges...)
		}
	}
	e.fetched, e.dead = rangesOf(fetched), rangesOf(dead)
	e.skipped = rangesOf(skipped).without(e.dead)
	clear(seen)
	var taken Ranges
	for i := range entries {
		one := &entries[i]
		if one.kind != topics.LedgerLines || one.rows == 0 || seen[one.id] {
			continue
		}
		seen[one.id] = true
		lines := rangesOf(one.ranges).without(taken)
		taken = rangesOf(append(taken, lines...))
		e.several = append(e.several, several{lines, one.rows})
		e.mixed = e.mixed || one.outcome != topics.OutcomeEvents
	}
	if last != nil {
		e.uri = last.uri()
		if last.outcome != topics.OutcomeComplete {
			e.letter = last
		}
	}
	return e
}

// withRows are the lines that have to have rows: all but skips and those of
// which the dead letter is all.
func (e *expected) withRows() Ranges {
	var beside []topics.LineRange
	for _, s := range e.several {
		beside = append(beside, s.lines...)
	}
	return e.fetched.without(e.skipped).without(e.dead.without(rangesOf(beside)))
}

// sums are those of an object of which all is there, once.
func (e *expected) sums(h *hashes) sums {
	lines := e.withRows()
	want := sums{uint64(lines.count()), h.of(lines)} //nolint:gosec // not negative
	for _, s := range e.several {
		for _, part := range s.lines.within(e.fetched) {
			for line := part[0]; line <= part[1]; line++ {
				want.rows += uint64(s.rows - 1) //nolint:gosec // at least one
				for event := 1; event < int(s.rows); event++ {
					want.hash += hashOf(line, event)
				}
			}
		}
	}
	return want
}

// rowsOf is how many rows a line has to have.
func (e *expected) rowsOf(line int64) int64 {
	for _, s := range e.several {
		if s.lines.contains(line) {
			return s.rows
		}
	}
	if !e.fetched.contains(line) || e.skipped.contains(line) || e.dead.contains(line) {
		return 0
	}
	return 1
}

func (k Key) time() time.Time { return time.Unix(int64(k.ReceivedAt), 0).UTC() }

// before orders keys as the tables do.
func (k Key) before(other Key) bool {
	switch {
	case k.Workspace != other.Workspace:
		return k.Workspace < other.Workspace
	case k.Source != other.Source:
		return k.Source < other.Source
	case k.ReceivedAt != other.ReceivedAt:
		return k.ReceivedAt < other.ReceivedAt
	}
	return k.Object < other.Object
}
