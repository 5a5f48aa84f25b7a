package top

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/auditstream/auditstream/services/auditstream/digits"
)

// Order of the partitions below the stages.
type Order int

// The orders that the key s goes through.
const (
	ByLag Order = iota
	ByAge
	ByRate
	ByName
	orders
)

func (o Order) String() string {
	return [...]string{"lag", "age", "rate", "name"}[o]
}

// unknown stands where nothing could be seen, none where there is nothing.
const (
	unknown = "?"
	none    = "-"
)

// table is a heading and what is below it, as lines of equal columns.
type table struct{ lines []string }

func makeTable(head string, rows [][]string) table {
	var text strings.Builder
	columns := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(columns, head) // a strings.Builder takes everything
	for _, row := range rows {
		_, _ = fmt.Fprintln(columns, strings.Join(row, "\t"))
	}
	_ = columns.Flush()
	lines := strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return table{lines}
}

// tables are the parts of the picture: stages, their instances, dead letters,
// partitions in the order asked for, problems.
func (s *Sample) tables(order Order) []table {
	parts := []table{s.stageTable(), s.instanceTable(), s.deadLetterTable(), s.partitionTable(order)}
	if len(s.Problems) > 0 {
		rows := make([][]string, 0, len(s.Problems))
		for _, problem := range s.Problems {
			rows = append(rows, []string{strings.Join(strings.Fields(problem), " ")})
		}
		parts = append(parts, makeTable("PROBLEMS", rows))
	}
	return parts
}

// Text writes the sample as plain text.
func (s *Sample) Text(w io.Writer, order Order) error {
	if _, err := fmt.Fprintln(w, s.At.Format(time.RFC3339)); err != nil {
		return err
	}
	for _, part := range s.tables(order) {
		if _, err := fmt.Fprintln(w, "\n"+strings.Join(part.lines, "\n")); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sample) stageTable() table {
	var rows [][]string
	for i := range s.Stages {
		stage := &s.Stages[i]
		owned := 0
		for _, p := range stage.Partitions {
			if p.Instance != "" {
				owned++
			}
		}
		transaction := unknown
		if t := stage.Transactions; t != nil {
			transaction = none
			if t.Oldest != nil {
				transaction = inSeconds(t.Oldest.Seconds)
			} else if t.Open > 0 {
				transaction = unknown
			}
		}
		intent := none
		if stage.OldestIntent != nil {
			intent = inSeconds(stage.OldestIntent.Seconds)
		}
		rows = append(rows, []string{
			stage.Name, strings.ToLower(stage.State), strconv.Itoa(len(stage.Instances)),
			fmt.Sprintf("%d/%d", owned, len(stage.Partitions)),
			digits.Group(stage.Lag.Stable), digits.Group(stage.Lag.HighWatermark), age(stage.Lag.Seconds),
			rate(stage.Consumed), rate(stage.Produced), transaction, intent,
		})
	}
	return makeTable("STAGE\tSTATE\tINSTANCES\tPARTITIONS\tLAG\tLAG TO HW\tBEHIND\tIN/S\tOUT/S\tOPEN TXN\tOPEN INTENT", rows)
}

func (s *Sample) instanceTable() table {
	var rows [][]string
	for i := range s.Stages {
		for j := range s.Stages[i].Instances {
			instance := &s.Stages[i].Instances[j]
			var parts []string
			for topic, partitions := range instance.Partitions {
				parts = append(parts, topic+" "+ranges(partitions))
			}
			slices.Sort(parts)
			rows = append(rows, []string{s.Stages[i].Name, instance.ClientID, instance.Host, cmp.Or(strings.Join(parts, ", "), none)})
		}
	}
	if len(rows) == 0 {
		rows = [][]string{{"none"}}
	}
	return makeTable("STAGE\tINSTANCE\tHOST\tPARTITIONS", rows)
}

// ranges writes ascending numbers as 0-3,7.
func ranges(numbers []int32) string {
	var text []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		if i == j {
			text = append(text, strconv.Itoa(int(numbers[i])))
		} else {
			text = append(text, fmt.Sprintf("%d-%d", numbers[i], numbers[j]))
		}
		i = j + 1
	}
	return strings.Join(text, ",")
}

func (s *Sample) deadLetterTable() table {
	letters := &s.DeadLetters
	head := fmt.Sprintf("DEAD LETTERS of the last %s: %s", inSeconds(letters.Window), digits.Group(letters.Total))
	if !letters.Complete {
		head += " or more (still reading)"
	}
	if letters.Last != nil {
		head += ", the last one " + inSeconds(s.At.Sub(*letters.Last).Seconds()) + " ago"
	}
	var rows [][]string
	for _, reason := range letters.Reasons {
		rows = append(rows, []string{"  " + reason.Reason, reason.Stage, digits.Group(reason.Count)})
	}
	return makeTable(head, rows)
}

func (s *Sample) partitionTable(order Order) table {
	type entry struct {
		stage int
		*Partition
	}
	var entries []entry
	for i := range s.Stages {
		for j := range s.Stages[i].Partitions {
			entries = append(entries, entry{i, &s.Stages[i].Partitions[j]})
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int {
		switch order {
		case ByLag:
			return cmp.Compare(b.Lag.HighWatermark, a.Lag.HighWatermark)
		case ByAge:
			return cmp.Compare(unknownLast(b.Lag.Seconds), unknownLast(a.Lag.Seconds))
		case ByRate:
			return cmp.Compare(unknownLast(b.Consumed), unknownLast(a.Consumed))
		}
		return 0 // as they are: by stage, topic and number
	})
	rows := make([][]string, 0, len(entries))
	for _, e := range entries {
		intent := none
		if i := e.Intent; i != nil {
			intent = fmt.Sprintf("[%d,%d) attempt %d for %s", i.From, i.To, i.Attempt, inSeconds(i.Seconds))
		}
		committed := none
		if e.Committed >= 0 {
			committed = strconv.FormatInt(e.Committed, 10)
		}
		rows = append(rows, []string{
			fmt.Sprintf("%s/%d", e.Topic, e.Partition.Partition), s.Stages[e.stage].Name, committed,
			digits.Group(e.Lag.Stable), digits.Group(e.Lag.HighWatermark), age(e.Lag.Seconds), rate(e.Consumed),
			cmp.Or(e.Instance, "nobody"), intent,
		})
	}
	return makeTable("PARTITION\tSTAGE\tCOMMITTED\tLAG\tLAG TO HW\tBEHIND\tIN/S\tINSTANCE\tINTENT", rows)
}

func unknownLast(value *float64) float64 {
	if value == nil {
		return -1
	}
	return *value
}

func age(seconds *float64) string {
	switch {
	case seconds == nil:
		return unknown
	case *seconds == 0:
		return none
	}
	return inSeconds(*seconds)
}

// inSeconds is a duration as a person reads it: 850ms, 12s, 3m20s, 5h10m, 2d3h.
func inSeconds(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	const day = 24 * time.Hour
	pair := func(large, small time.Duration, largeUnit, smallUnit string) string {
		text := strconv.FormatInt(int64(d/large), 10) + largeUnit
		if rest := d % large / small; rest > 0 {
			text += strconv.FormatInt(int64(rest), 10) + smallUnit
		}
		return text
	}
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	case d < time.Minute:
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	case d < time.Hour:
		return pair(time.Minute, time.Second, "m", "s")
	case d < day:
		return pair(time.Hour, time.Minute, "h", "m")
	}
	return pair(day, time.Hour, "d", "h")
}

func rate(perSecond *float64) string {
	switch {
	case perSecond == nil:
		return none
	case *perSecond > 0 && *perSecond < 10:
		return strconv.FormatFloat(*perSecond, 'f', 1, 64)
	}
	return digits.Group(int64(math.Round(*perSecond)))
}
