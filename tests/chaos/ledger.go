package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// ledger keeps account of the faults: when each came, and whether it did what
// it was to do.
type ledger struct {
	file *os.File

	mu       sync.Mutex
	fired    map[string]int
	wanted   map[string]bool // kinds that were tried, or must be
	killed   int
	takes    map[string]time.Duration // the longest recovery of each kind
	begun    time.Time
	optional map[string]bool
}

func newLedger(path string) (*ledger, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &ledger{file: file, fired: map[string]int{}, wanted: map[string]bool{}, takes: map[string]time.Duration{},
		optional: map[string]bool{}, begun: time.Now()}, nil
}

func (l *ledger) close() error { return l.file.Close() }

// write adds a line to the log of faults, with the same clock as the stages' logs.
func (l *ledger) write(text string) {
	fmt.Fprintf(l.file, "%s %7.2f %s\n", time.Now().UTC().Format(time.RFC3339Nano), time.Since(l.begun).Seconds(), strings.TrimSpace(text))
}

func (c *campaign) note(text string) { c.ledger.write(text) }

// want says that a kind must fire at least once.
func (l *ledger) want(kind string, must bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted[kind] = true
	l.optional[kind] = !must
}

// fire counts a fault that did what it was to do.
func (l *ledger) fire(kind string) {
	l.mu.Lock()
	l.fired[kind]++
	l.mu.Unlock()
	l.write("fired: " + kind)
}

// kill counts a process that got SIGKILL.
func (l *ledger) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.killed++
}

func (l *ledger) kills() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.killed
}

func (l *ledger) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	total := 0
	for _, count := range l.fired {
		total += count
	}
	return total
}

// missing are kinds that had to fire and never did.
func (l *ledger) missing() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var never []string
	for _, kind := range slices.Sorted(maps.Keys(l.wanted)) {
		if l.fired[kind] == 0 && !l.optional[kind] {
			never = append(never, kind)
		}
	}
	return never
}

// recovered is told by the watch.
func (c *campaign) recovered(r *recovery) {
	c.ledger.mu.Lock()
	c.ledger.takes[r.kind] = max(c.ledger.takes[r.kind], r.took)
	c.ledger.mu.Unlock()
	c.note(fmt.Sprintf("recovered from %s in %.1f s", r.kind, r.took.Seconds()))
}

// table lists the kinds with how often each fired and its longest recovery.
func (l *ledger) table() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var text strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(l.wanted)) {
		fmt.Fprintf(&text, "  %-52s %5d", kind, l.fired[kind])
		if took := l.takes[kind]; took > 0 {
			fmt.Fprintf(&text, "   %5.1f s", took.Seconds())
		}
		text.WriteByte('\n')
	}
	return text.String()
}
