package verify

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/auditstream/auditstream/services/auditstream/digits"
)

// How much of a long report is printed; JSON has all of it.
const (
	mostProblems = 50
	mostRanges   = 20
	mostDead     = 10
)

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	var b strings.Builder
	r.problems(&b)
	r.totals(&b)
	r.dead(&b)
	r.underWay(&b)
	if r.Complete() {
		fmt.Fprintf(&b, "everything that was fetched is there, once (%s)\n", r.Took.Round(time.Millisecond))
	} else {
		fmt.Fprintf(&b, "NOT COMPLETE: %s (%s)\n", digits.Of(len(r.Problems), "object"), r.Took.Round(time.Millisecond))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) totals(b *strings.Builder) {
	// A strings.Builder takes everything.
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "workspace\tsource\tobjects\tlines\twith rows\tdead letters\tskipped\tmissing\trows\t")
	line := func(workspace, source string, t *Totals) {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", workspace, source, digits.Group(t.Objects), digits.Group(t.Lines),
			digits.Group(t.WithRows), digits.Group(t.DeadOnly), digits.Group(t.Skipped), digits.Group(t.Missing), digits.Group(t.Rows))
	}
	for i := range r.Sources {
		line(r.Sources[i].Workspace, r.Sources[i].Source, &r.Sources[i].Totals)
	}
	if len(r.Sources) != 1 {
		line("", "all", &r.Totals)
	}
	_ = table.Flush()
	b.WriteByte('\n')
}

func (r *Report) problems(b *strings.Builder) {
	for i := range r.Problems {
		if i == mostProblems {
			fmt.Fprintf(b, "… and %s more, which --json lists\n", digits.Of(len(r.Problems)-i, "object"))
			break
		}
		p := &r.Problems[i]
		name := p.URI
		if name == "" {
			name = "object " + p.Object
		}
		fmt.Fprintf(b, "%s  (id %s, source %s, received %s)\n", name, p.Object, p.Source, p.ReceivedAt.Format(time.RFC3339))
		for _, text := range p.texts() {
			fmt.Fprintf(b, "  %s\n", text)
		}
	}
	if len(r.Problems) > 0 {
		b.WriteByte('\n')
	}
}

// texts say what is wrong, a line each.
func (p *Problem) texts() []string {
	var texts []string
	switch {
	case p.Unannounced:
		return []string{"is in the bucket and was never announced"}
	case p.Unknown:
		return []string{fmt.Sprintf("is not in the ledger under this workspace, source and time; it has %s", digits.Of(p.Rows, "row"))}
	case p.Unexamined:
		return []string{fmt.Sprintf("has %s, and there have to be %s; not looked at line by line, after so many others", digits.Of(p.Rows, "row"), digits.Group(p.Want))}
	}
	for _, one := range []struct {
		lines Ranges
		what  string
	}{
		{p.Missing, "missing: neither row nor dead letter nor skip"},
		{p.Short, "short: fewer rows than events"},
		{p.Surplus, "surplus: rows of lines that were not fetched, or gave none"},
		{p.Doubled, "doubled: rows that are there twice"},
	} {
		if len(one.lines) > 0 {
			texts = append(texts, fmt.Sprintf("%s; %s %s", one.what, lineOrLines(one.lines.count()), one.lines))
		}
	}
	return texts
}

func lineOrLines(n int64) string {
	if n == 1 {
		return "line"
	}
	return digits.Group(n) + " lines,"
}

// String is the lines as people write them: 3, 7-12.
func (r Ranges) String() string {
	var b strings.Builder
	for i, part := range r {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == mostRanges {
			b.WriteString("…")
			break
		}
		if part[0] == part[1] {
			fmt.Fprintf(&b, "%d", part[0])
		} else {
			fmt.Fprintf(&b, "%d-%d", part[0], part[1])
		}
	}
	return b.String()
}

func (r *Report) dead(b *strings.Builder) {
	for i, object := range r.Dead {
		if i == mostDead {
			fmt.Fprintf(b, "… and %s more set aside\n", digits.Of(len(r.Dead)-i, "object"))
			break
		}
		fmt.Fprintf(b, "set aside: %s: %s, after %s\n", object.URI, object.Reason, digits.Of(object.Lines, "line"))
	}
}

func (r *Report) underWay(b *strings.Builder) {
	for _, lag := range r.Lag {
		if lag.Records > 0 {
			fmt.Fprintf(b, "%s is up to %s behind in %s\n", lag.Group, digits.Of(lag.Records, "record"), lag.Topic)
		}
	}
	if r.Again > 0 {
		fmt.Fprintf(b, "once more: %s, made again by a replay or another fetch; the view shows each once\n", digits.Of(r.Again, "row"))
	}
	if n := len(r.UnderWay); n > 0 {
		fmt.Fprintf(b, "under way, and so not judged: %s\n", digits.Of(n, "object"))
	}
	if r.Listed > 0 {
		fmt.Fprintf(b, "%s listed in buckets\n", digits.Of(r.Listed, "object"))
	}
}
