package verify

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/topics"
)

// examinedAtOnce is how many objects are looked at line by line at once.
const examinedAtOnce = 4

// examine looks at the suspects line by line.
func (v *verification) examine(ctx context.Context) error {
	problems := make([]Problem, len(v.suspects))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(examinedAtOnce)
	examined := 0
	for i := range v.suspects {
		s, problem := &v.suspects[i], &problems[i]
		*problem = Problem{
			Object: s.key.Object, URI: s.uri, Workspace: s.key.Workspace, Source: s.key.Source, ReceivedAt: s.key.time(),
			Unknown: s.unknown, Rows: int64(s.have.rows), Want: int64(s.want.rows), //nolint:gosec // numbers of rows
		}
		if s.unknown {
			continue
		}
		if examined++; examined > MostExamined {
			problem.Unexamined = true
			continue
		}
		group.Go(func() (err error) {
			s.counts, err = v.lineByLine(ctx, s, problem)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i := range problems {
		v.count(v.suspects[i].key, v.suspects[i].counts)
		if problem := &problems[i]; problem.Unknown || problem.Unexamined || !problem.fine() {
			v.problems = append(v.problems, *problem)
		}
	}
	return nil
}

func (p *Problem) fine() bool {
	return len(p.Missing)+len(p.Short)+len(p.Surplus)+len(p.Doubled) == 0
}

// lineByLine holds each line's rows against the ledger.
func (v *verification) lineByLine(ctx context.Context, s *suspect, problem *Problem) (Totals, error) {
	var entries []entry
	// By object and time alone: lines may be recorded under another workspace.
	at := where{since: s.key.ReceivedAt, until: s.key.ReceivedAt + 1, objects: []string{s.key.Object}}
	if err := v.tables.entries(ctx, at, func(e entry) error {
		entries = append(entries, e)
		return nil
	}); err != nil {
		return Totals{}, err
	}
	e := expect(entries)
	x := examination{expected: &e, explained: s.explained}
	err := v.tables.ids(ctx, s.key, func(id string, times uint64) error {
		x.take(id, times)
		return nil
	})
	if err != nil {
		return Totals{}, err
	}
	x.endOfLine()
	have := rangesOf(x.have)
	problem.Missing = e.withRows().without(have)
	problem.Short, problem.Surplus, problem.Doubled = rangesOf(x.short), rangesOf(x.surplus), rangesOf(x.doubled)

	// More may have arrived since the first look.
	problem.Rows = x.rows
	counts := s.counts
	counts.Rows = x.rows
	counts.Skipped = e.skipped.within(e.fetched).without(have).count()
	counts.WithRows = have.within(e.fetched).count()
	counts.DeadOnly = e.dead.within(e.fetched).without(have).count()
	return counts, nil
}

// examination goes through the ids of one object, in order.
type examination struct {
	*expected
	explained bool

	line   int64 // at hand; 0: none
	events int64 // different ids of it
	rows   int64 // of all lines, as they are

	have, short, surplus, doubled []topics.LineRange
}

func (x *examination) take(id string, times uint64) {
	x.rows += int64(times) //nolint:gosec // a number of rows
	_, line, _, err := identity.ParseRowID(id)
	if err != nil || line < 1 {
		x.surplus = topics.AppendLine(x.surplus, 0) // of no line
		return
	}
	if line != x.line {
		x.endOfLine()
		x.line, x.events = line, 0
		x.have = topics.AppendLine(x.have, line)
	}
	x.events++
	// A line that was set aside may have been put back more than once.
	if times > 1 && !x.explained && !x.dead.contains(line) && last(x.doubled) != line {
		x.doubled = topics.AppendLine(x.doubled, line)
	}
}

func last(ranges []topics.LineRange) int64 {
	if len(ranges) == 0 {
		return 0
	}
	return ranges[len(ranges)-1][1]
}

// endOfLine judges the line at hand.
func (x *examination) endOfLine() {
	if x.line == 0 {
		return
	}
	want := x.rowsOf(x.line)
	switch {
	case !x.fetched.contains(x.line):
		x.surplus = topics.AppendLine(x.surplus, x.line)
	case x.events < want:
		x.short = topics.AppendLine(x.short, x.line)
	case x.events > want && !x.explained && !x.dead.contains(x.line):
		x.surplus = topics.AppendLine(x.surplus, x.line)
	}
}
