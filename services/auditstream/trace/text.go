package trace

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	var text strings.Builder
	if len(r.Traces) == 0 {
		fmt.Fprintf(&text, "%s: %s\n", r.Asked, OutcomeNotFound)
	}
	for i := range r.Traces {
		if i > 0 {
			text.WriteString("\n")
		}
		r.Traces[i].text(&text)
	}
	for i, note := range r.Notes {
		if i == 0 {
			text.WriteString("\n")
		}
		fmt.Fprintf(&text, "note: %s\n", note)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func (t *Trace) text(w *strings.Builder) {
	fmt.Fprintf(w, "%s: %s\n", t.ID, t.Outcome)
	if uri := t.Object.URI(); uri != "" {
		w.WriteString("  " + uri)
		if t.Line > 0 {
			fmt.Fprintf(w, " line %d", t.Line)
		}
		if t.Object.Source != "" {
			w.WriteString(", source " + t.Object.Source)
		}
		w.WriteString("\n")
	}
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range t.Hops {
		hop := &t.Hops[i]
		at, delay, place := "", "", ""
		if hop.At != nil {
			at = hop.At.UTC().Format("2006-01-02 15:04:05.000")
		}
		if hop.Delay != nil {
			delay = inWords(*hop.Delay)
		}
		switch {
		case hop.Offset != nil:
			place = fmt.Sprintf("%s/%d@%d", hop.Topic, *hop.Partition, *hop.Offset)
		case hop.Topic != "":
			place = hop.Topic
		}
		_, _ = fmt.Fprintf(columns, "  %s\t%s\t%s\t%s\t%s\t%s\n", hop.Name, hop.State, at, delay, place,
			strings.Join(strings.Fields(hop.Text), " ")) // a strings.Builder takes everything
	}
	_ = columns.Flush()
}

// inWords is the time since the hop before.
func inWords(seconds float64) string {
	sign := "+"
	if seconds < 0 {
		sign, seconds = "-", -seconds // clocks differ
	}
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Minute {
		return sign + d.Round(time.Millisecond).String()
	}
	return sign + d.Round(time.Second).String()
}
