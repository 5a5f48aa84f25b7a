package verify

import (
	"cmp"
	"slices"
	"sort"

	"github.com/auditstream/auditstream/topics"
)

// Ranges are sets of lines: in order, and apart from each other.
type Ranges []topics.LineRange

// rangesOf brings ranges in any order, overlapping or not, into order.
func rangesOf(lines []topics.LineRange) Ranges {
	sorted := slices.Clone(lines)
	slices.SortFunc(sorted, func(a, b topics.LineRange) int { return cmp.Compare(a[0], b[0]) })
	var all Ranges
	for _, next := range sorted {
		if next[1] < next[0] {
			continue
		}
		if last := len(all) - 1; last >= 0 && next[0] <= all[last][1]+1 {
			all[last][1] = max(all[last][1], next[1])
			continue
		}
		all = append(all, next)
	}
	return all
}

func (r Ranges) count() (lines int64) {
	for _, part := range r {
		lines += part[1] - part[0] + 1
	}
	return lines
}

func (r Ranges) contains(line int64) bool {
	at := sort.Search(len(r), func(i int) bool { return r[i][1] >= line })
	return at < len(r) && r[at][0] <= line
}

// without are the lines of r that are not in other.
func (r Ranges) without(other Ranges) Ranges {
	var rest Ranges
	i := 0
	for _, part := range r {
		from := part[0]
		for i < len(other) && other[i][1] < from {
			i++
		}
		for j := i; j < len(other) && other[j][0] <= part[1]; j++ {
			if other[j][0] > from {
				rest = append(rest, topics.LineRange{from, other[j][0] - 1})
			}
			from = other[j][1] + 1
		}
		if from <= part[1] {
			rest = append(rest, topics.LineRange{from, part[1]})
		}
	}
	return rest
}

// within are the lines of r that are in other, too.
func (r Ranges) within(other Ranges) Ranges { return r.without(r.without(other)) }
