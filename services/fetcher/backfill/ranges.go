package backfill

import (
	"context"
	"fmt"
	"slices"
)

const (
	// enoughRanges is how many parts a listing is cut into, if it can be: more
	// than are listed at once, since they are of different sizes.
	enoughRanges = 64
	// mostLookups bounds the requests that look for places to cut.
	mostLookups = 100
	delimiter   = "/"
)

// Range is a part of the keys below the prefix: those after After, up to and
// with UpTo, or to the end when that is empty.
type Range struct {
	After string `json:"after"`
	UpTo  string `json:"upTo,omitempty"`
	// Passed is the last key whose announcement, and that of all before it in the
	// range, is durable.
	Passed string `json:"passed,omitempty"`
	Done   bool   `json:"done,omitempty"`
	Totals
}

// from is the key after which listing goes on.
func (r *Range) from() string { return max(r.After, r.Passed) }

// cut divides the keys below prefix at the prefixes that it finds. The ranges
// cover every key there is or will be, whatever was found: where to cut is a
// guess at equal shares and nothing more.
func cut(ctx context.Context, lister Lister, bucket, prefix string) ([]Range, error) {
	level := []string{prefix}
	var cuts []string
	for lookups := 0; len(level) > 0 && len(cuts) < enoughRanges; {
		var below []string
		for _, parent := range level {
			if lookups++; lookups > mostLookups {
				break
			}
			found, _, err := lister.Prefixes(ctx, bucket, parent, delimiter)
			if err != nil {
				return nil, err
			}
			if !slices.IsSorted(found) {
				// Where a range ends says nothing then of what is still to come.
				return nil, fmt.Errorf("%w: prefixes below %q", ErrOrder, parent)
			}
			below = append(below, found...)
		}
		cuts = append(cuts, below...)
		if lookups > mostLookups {
			break
		}
		level = below
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	// Of too many, some at equal distances.
	step := (len(cuts) + 4*enoughRanges - 1) / (4 * enoughRanges)
	ranges := []Range{{}}
	for i := 0; i < len(cuts); i += max(step, 1) {
		last := &ranges[len(ranges)-1]
		last.UpTo = cuts[i]
		ranges = append(ranges, Range{After: cuts[i]})
	}
	return ranges, nil
}
