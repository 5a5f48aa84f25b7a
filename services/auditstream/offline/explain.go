package offline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/event"
)

// explainedWidth bounds how much of a value is shown, in characters.
const explainedWidth = 72

// explain writes, for each row of the line, its columns that hold something and
// where each came from.
func (n *Normalizer) explain(source *audit.Source, line audit.Line) audit.Result {
	return n.normalizer.Explain(source, line, func(row *event.Row, origins []audit.Origin) {
		n.events++
		if n.rows.err == nil {
			n.rows.err = writeExplained(n.rows.buffered, line.Number, row, origins)
		}
	})
}

func writeExplained(w io.Writer, number int64, row *event.Row, origins []audit.Origin) error {
	var text bytes.Buffer
	single := newRowWriter(&text)
	single.write(row)
	if err := single.flush(); err != nil {
		return err
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(text.Bytes(), &values); err != nil {
		return fmt.Errorf("explain line %d: %w", number, err)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if _, err := fmt.Fprintf(table, "line %d, row %s\nCOLUMN\tVALUE\tFROM\n", number, row.ID); err != nil {
		return err
	}
	for _, origin := range origins {
		if origin.From == "" {
			continue
		}
		if _, err := fmt.Fprintf(table, "%s\t%s\t%s\n", origin.Column, shown(values[origin.Column]), origin.From); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(table); err != nil {
		return err
	}
	return table.Flush()
}

// shown is a value cut to one short line.
func shown(value json.RawMessage) string {
	text := strings.ToValidUTF8(string(value), "\uFFFD")
	if utf8.RuneCountInString(text) <= explainedWidth {
		return text
	}
	return string([]rune(text)[:explainedWidth-1]) + "…"
}
