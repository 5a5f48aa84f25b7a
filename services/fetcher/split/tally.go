package split

import (
	"sync"
	"time"

	"github.com/auditstream/auditstream/topics"
)

// tally is what the transaction under way has done, until its outcome is known:
// an aborted one's work is done again, and is to be counted once.
type tally struct {
	mu          sync.Mutex // workers count at the same time
	objects     map[string]int
	sizes       map[string]int64
	deadLetters map[topics.Reason]int
	retries     map[topics.Reason]int
	created     []time.Time // of the objects that were split to their end

	lines, blank int64
	stored, raw  int64
	reopened     int64
}

// object counts the outcome of a record of `objects`.
func (t *tally) object(outcome string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.objects == nil {
		t.objects = make(map[string]int)
	}
	t.objects[outcome]++
}

// ended counts an object that has come to an end.
func (t *tally) ended(outcome string, object *topics.Object) {
	t.object(outcome)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sizes == nil {
		t.sizes = make(map[string]int64)
	}
	t.sizes[outcome] += max(object.Size, 0)
}

// lasted notes when an object was created whose last line is produced.
func (t *tally) lasted(created time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.created = append(t.created, created)
}

func (t *tally) deadLetter(reason topics.Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.deadLetters == nil {
		t.deadLetters = make(map[topics.Reason]int)
	}
	t.deadLetters[reason]++
}

func (t *tally) retry(reason topics.Reason) {
	t.object(outcomeRetried)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.retries == nil {
		t.retries = make(map[topics.Reason]int)
	}
	t.retries[reason]++
}

// read counts lines, blank ones, and the bytes they were in.
func (t *tally) read(lines, blank, raw int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines += lines
	t.blank += blank
	t.raw += raw
}

func (t *tally) took(stored int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stored += stored
}

func (t *tally) openedAgain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reopened++
}

// settle counts a committed transaction and forgets it.
func (t *tally) settle(m *Metrics) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for outcome, n := range t.sizes {
		m.sizes.WithLabelValues(outcome).Add(float64(n))
	}
	for reason, n := range t.deadLetters {
		m.deadLetters.WithLabelValues(string(reason)).Add(float64(n))
	}
	for reason, n := range t.retries {
		m.retries.WithLabelValues(string(reason)).Add(float64(n))
	}
	for _, created := range t.created {
		m.seconds.Observe(time.Since(created).Seconds())
	}
	m.lines.Add(float64(t.lines))
	m.blankLines.Add(float64(t.blank))
	m.stored.Add(float64(t.stored))
	m.raw.Add(float64(t.raw))
	m.reopened.Add(float64(t.reopened))
	for outcome, n := range t.objects {
		m.objects.WithLabelValues(outcome).Add(float64(n))
	}
	t.forget()
}

// drop forgets a transaction that was not committed.
func (t *tally) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget()
}

func (t *tally) forget() {
	clear(t.objects)
	clear(t.sizes)
	clear(t.deadLetters)
	clear(t.retries)
	t.created = t.created[:0]
	t.lines, t.blank, t.stored, t.raw, t.reopened = 0, 0, 0, 0, 0
}
