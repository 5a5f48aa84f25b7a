package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// collapse compares the objects that may rightly have rows twice once more, with
// each row counted once.
func (v *verification) collapse(ctx context.Context) error {
	at := make(map[Key]int)
	w := v.where
	w.objects = nil
	for i := range v.suspects {
		if v.suspects[i].explained {
			at[v.suspects[i].key] = i
			w.objects = append(w.objects, v.suspects[i].key.Object)
		}
	}
	if len(at) == 0 {
		return nil
	}
	if len(at) > MostExamined {
		w.objects = v.where.objects // so many that reading all is no more work
	}
	same := make(map[Key]bool)
	if err := v.tables.aggregates(ctx, w, true, func(a aggregate) error {
		if i, found := at[a.key]; found && v.suspects[i].want == a.sums {
			same[a.key] = true
		}
		return nil
	}); err != nil {
		return err
	}
	v.suspects = slices.DeleteFunc(v.suspects, func(s suspect) bool {
		if same[s.key] {
			v.count(s.key, s.counts)
			if s.have.rows > s.want.rows {
				v.report.Again += int64(s.have.rows - s.want.rows) //nolint:gosec // a number of rows
			}
		}
		return same[s.key]
	})
	return nil
}

// lookAtStrays: lines may be recorded where their object is not, by an enricher
// that does not know the source's workspace. Their object is somewhere, though.
func (v *verification) lookAtStrays(ctx context.Context) error {
	if len(v.strays) == 0 {
		return nil
	}
	objects := make([]string, 0, len(v.strays))
	for object := range v.strays {
		objects = append(objects, object)
	}
	for lot := range slices.Chunk(objects, lotOfObjects) {
		if err := v.tables.known(ctx, lot, func(object string) { delete(v.strays, object) }); err != nil {
			return err
		}
	}
	for object, key := range v.strays {
		v.problems = append(v.problems, Problem{
			Object: object, Workspace: key.Workspace, Source: key.Source, ReceivedAt: key.time(), Unknown: true,
		})
	}
	return nil
}

// lotOfObjects go into one question.
const lotOfObjects = 10_000

// conclude leaves out what is only under way, and sums up.
func (v *verification) conclude(ctx context.Context) error {
	if len(v.problems) > 0 && v.opts.Flight != nil {
		objects := make(map[string]bool, len(v.problems))
		for i := range v.problems {
			objects[v.problems[i].Object] = true
		}
		under, replays, err := v.opts.Flight.UnderWay(ctx, objects)
		if err != nil {
			return fmt.Errorf("look what is under way: %w", err)
		}
		// A replay's rows may be in the table before its entry is.
		for _, replay := range replays {
			v.replays = append(v.replays, v.tables.ofReplay(replay))
		}
		for i := range v.problems {
			if p := &v.problems[i]; p.onlyDoubled() && v.replayed(p.key()) {
				under[p.Object] = true
			}
		}
		v.problems = slices.DeleteFunc(v.problems, func(p Problem) bool { return under[p.Object] })
		for object := range under {
			v.report.UnderWay = append(v.report.UnderWay, object)
		}
		slices.Sort(v.report.UnderWay)
	}
	v.report.Dead = slices.DeleteFunc(v.report.Dead, func(d DeadObject) bool { return v.takenIn[d] })
	slices.SortFunc(v.problems, func(a, b Problem) int {
		switch first, second := a.key(), b.key(); {
		case first.before(second):
			return -1
		case second.before(first):
			return 1
		}
		return 0
	})
	for i := range v.problems {
		p := &v.problems[i]
		v.count(Key{Workspace: p.Workspace, Source: p.Source}, Totals{Problems: 1, Missing: p.Missing.count()})
	}
	v.report.Problems = append(v.report.Problems, v.problems...)
	for _, of := range v.totals {
		v.report.Totals.add(of.Totals)
		v.report.Sources = append(v.report.Sources, *of)
	}
	slices.SortFunc(v.report.Sources, func(a, b SourceTotals) int {
		return strings.Compare(a.Workspace+"\x00"+a.Source, b.Workspace+"\x00"+b.Source)
	})
	return nil
}
