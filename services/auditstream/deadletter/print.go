package deadletter

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/services/auditstream/digits"
)

// longestError is what a line of the table shows of an error.
const longestError = 100

// entry is a letter in JSON.
type entry struct {
	Position   string     `json:"position"`
	At         time.Time  `json:"at"`
	Stage      string     `json:"stage,omitempty"`
	Reason     string     `json:"reason"`
	Error      string     `json:"error"`
	Source     string     `json:"source,omitempty"`
	Object     string     `json:"object,omitempty"`
	URI        string     `json:"uri,omitempty"`
	Line       int64      `json:"line,omitempty"`
	Event      int        `json:"event,omitempty"`
	Extent     string     `json:"extent,omitempty"`
	ReceivedAt *time.Time `json:"receivedAt,omitempty"`
	From       string     `json:"from,omitempty"`
	Bytes      int        `json:"bytes"`
	Size       int64      `json:"size,omitempty"`
	Retried    *time.Time `json:"retried,omitempty"`
	Text       *string    `json:"text,omitempty"` // of show
	Hex        string     `json:"hex,omitempty"`  // of show, of what is no text
}

func (l *Letter) entry() entry {
	d := &l.Letter
	e := entry{
		Position: l.String(), At: l.At.UTC(), Stage: d.Stage, Reason: string(d.Reason), Error: d.Error, Source: d.Source, Object: d.Object,
		URI: l.URI, Line: d.Line, Event: d.Event, Bytes: l.Length, Size: d.Size, From: l.from(),
	}
	if d.Extent != event.WholeLine {
		e.Extent = d.Extent.String()
	}
	if d.ReceivedAt > 0 {
		at := time.UnixMilli(d.ReceivedAt).UTC()
		e.ReceivedAt = &at
	}
	if !l.Retried.IsZero() {
		at := l.Retried.UTC()
		e.Retried = &at
	}
	return e
}

// from is where its record was.
func (l *Letter) from() string {
	if l.Letter.Topic == "" {
		return ""
	}
	return fmt.Sprintf("%s/%d/%d", l.Letter.Topic, l.Letter.Partition, l.Letter.Offset)
}

// Table prints letters, oldest first.
func Table(out io.Writer, letters []*Letter) error {
	slices.SortStableFunc(letters, func(a, b *Letter) int { return a.At.Compare(b.At) })
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "LETTER\tTIME\tSTAGE\tREASON\tSOURCE\tOBJECT\tLINE\tERROR")
	for _, l := range letters {
		d := &l.Letter
		message := oneLine(d.Error, longestError)
		if !l.Retried.IsZero() {
			message = "(put back " + l.Retried.UTC().Format(time.RFC3339) + ") " + message
		}
		line := ""
		if d.Line > 0 {
			line = fmt.Sprint(d.Line)
			if d.Extent != event.WholeLine || d.Event > 0 {
				line += fmt.Sprintf(".%d", d.Event)
			}
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Position, l.At.UTC().Format(time.RFC3339), d.Stage, d.Reason,
			oneLine(d.Source, longestError), oneLine(cmp.Or(l.URI, d.Object), 3*longestError), line, message)
	}
	_ = table.Flush() // into memory, like what came before it
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// JSON prints letters as JSON, one in a line, oldest first.
func JSON(out io.Writer, letters []*Letter) error {
	slices.SortStableFunc(letters, func(a, b *Letter) int { return a.At.Compare(b.At) })
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for _, l := range letters {
		if err := encoder.Encode(l.entry()); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}

// Summary counts letters by stage and reason.
type Summary map[[2]string]int

// Add counts one.
func (s Summary) Add(l *Letter) { s[[2]string{l.Letter.Stage, string(l.Letter.Reason)}]++ }

func (s Summary) sorted() [][2]string {
	return slices.SortedFunc(maps.Keys(s), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(s[b], s[a]), cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
}

// Print writes the counts, the largest first, as a table or as JSON lines.
func (s Summary) Print(out io.Writer, asJSON bool) error {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	encoder := json.NewEncoder(&text)
	total := 0
	if !asJSON {
		_, _ = fmt.Fprintln(table, "STAGE\tREASON\tCOUNT")
	}
	for _, key := range s.sorted() {
		total += s[key]
		if !asJSON {
			_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", key[0], key[1], digits.Group(s[key]))
			continue
		}
		if err := encoder.Encode(struct {
			Stage  string `json:"stage"`
			Reason string `json:"reason"`
			Count  int    `json:"count"`
		}{key[0], key[1], s[key]}); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	if !asJSON {
		_, _ = fmt.Fprintf(table, "\ttotal\t%s\n", digits.Group(total))
		if err := table.Flush(); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// Show prints all of one letter.
func Show(out io.Writer, l *Letter, asJSON bool) error {
	var text strings.Builder
	d := &l.Letter
	if asJSON {
		e := l.entry()
		if utf8.Valid(d.Bytes) {
			bytes := string(d.Bytes)
			e.Text = &bytes
		} else {
			e.Hex = hex.EncodeToString(d.Bytes)
		}
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(e); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	} else {
		e := l.entry()
		field := func(name, value string) {
			if value != "" {
				fmt.Fprintf(&text, "%-12s%s\n", name, printable(value))
			}
		}
		field("letter", e.Position)
		field("time", e.At.Format(time.RFC3339Nano))
		field("stage", e.Stage)
		field("reason", e.Reason)
		field("error", e.Error)
		field("from", e.From)
		field("source", e.Source)
		field("object", e.Object)
		field("uri", e.URI)
		if e.Line > 0 {
			field("line", fmt.Sprint(e.Line))
			field("event", fmt.Sprint(e.Event))
		}
		field("extent", e.Extent)
		if e.ReceivedAt != nil {
			field("receivedAt", e.ReceivedAt.Format(time.RFC3339Nano))
		}
		if e.Retried != nil {
			field("put back", e.Retried.Format(time.RFC3339Nano))
		}
		size := fmt.Sprint(e.Bytes)
		if e.Size > 0 {
			size = fmt.Sprintf("the first %d of %d", e.Bytes, e.Size)
		}
		field("bytes", size)
		text.WriteByte('\n')
		if isText(d.Bytes) {
			text.Write(d.Bytes)
			text.WriteByte('\n')
		} else {
			text.WriteString(hex.Dump(d.Bytes))
		}
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// isText tells whether a terminal shows bytes as they are.
func isText(data []byte) bool {
	if !utf8.Valid(data) {
		return false
	}
	for _, r := range string(data) {
		if !unicode.IsPrint(r) && r != '\n' && r != '\t' {
			return false
		}
	}
	return true
}

// printable keeps what a log said from steering the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

func oneLine(text string, longest int) string {
	runes := []rune(printable(text))
	if len(runes) > longest {
		return string(runes[:longest-1]) + "…"
	}
	return string(runes)
}
