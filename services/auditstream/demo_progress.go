package main

import (
	"context"
	"fmt"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/auditstream/auditstream/services/auditstream/digits"
)

// progress is what the demo shows every second.
type progress struct {
	demo  *demo
	start time.Time

	objects, lines, rows, deadLetters int

	moved     time.Time // when a figure last changed
	shownAt   time.Time
	shownRows int
}

func newProgress(d *demo) *progress {
	now := time.Now()
	return &progress{demo: d, start: now, moved: now, shownAt: now}
}

func (p *progress) read(ctx context.Context) error {
	before := [...]int{p.objects, p.lines, p.rows, p.deadLetters}
	p.deadLetters = p.demo.dead.count()
	err := p.demo.queries.numbers(ctx, "SELECT count() FROM {table}", &p.rows)
	if gathered, gatherErr := p.demo.registry.Gather(); gatherErr == nil {
		p.objects, p.lines = fetched(gathered)
	}
	if before != [...]int{p.objects, p.lines, p.rows, p.deadLetters} {
		p.moved = time.Now()
	}
	return err
}

// fetched reads from the fetcher's metrics how many objects it is done with and
// how many lines it has gone through.
func fetched(families []*dto.MetricFamily) (objects, lines int) {
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			value := int(metric.GetCounter().GetValue())
			switch family.GetName() {
			case "auditstream_fetcher_lines_total", "auditstream_fetcher_blank_lines_total":
				lines += value
			case "auditstream_fetcher_objects_total":
				for _, label := range metric.GetLabel() {
					if label.GetValue() == "done" || label.GetValue() == "deadletter" {
						objects += value
					}
				}
			}
		}
	}
	return objects, lines
}

func (p *progress) stalled() bool { return time.Since(p.moved) > demoStall }

func (p *progress) print(written bool) {
	now := time.Now()
	rate := float64(p.rows-p.shownRows) / max(now.Sub(p.shownAt).Seconds(), 0.001)
	p.shownRows, p.shownAt = p.rows, now
	more := "+" // are still being written
	if written {
		more = ""
	}
	d := p.demo
	d.say("  %5s      objects %s of %s%s   lines %s of %s%s   rows %s (%s/s)   dead letters %s\n",
		now.Sub(p.start).Round(time.Second), digits.Group(p.objects), digits.Group(int(d.putCount.Load())), more,
		digits.Group(p.lines), digits.Group(int(d.putLines.Load())), more, digits.Group(p.rows), digits.Group(int(rate)), digits.Group(p.deadLetters))
}

// size writes a number of bytes with its unit.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}
