package deadletter

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/topics"
)

// preview says what a line becomes, by the enricher's own rules: normalizing is
// a pure function.
type preview struct {
	normalizer *audit.Normalizer
	sources    map[string]*audit.Source
}

// outcome is what one line, or what is meant of it, becomes.
type outcome struct {
	rows     [][]byte // encoded
	rejected string   // the first rejection, for people
	count    int      // rows and rejections
}

func (p *preview) of(line *topics.RawLine) (outcome, error) {
	source, known := p.sources[line.Source]
	if !known {
		return outcome{}, fmt.Errorf("its source %q is not in the configuration, so it would be set aside again", line.Source)
	}
	var o outcome
	result := p.normalizer.Normalize(source, audit.Line{
		Bytes: line.Bytes, ObjectID: line.Object, Number: line.Line, ReceivedAt: line.ReceivedAt, Extent: line.Extent, Event: line.Event,
	}, func(row *event.Row) {
		if len(o.rows) < 2 { // more are not asked for
			o.rows = append(o.rows, topics.AppendNormalized(nil, row))
		}
	})
	o.count = result.Rows + len(result.Rejections)
	if len(result.Rejections) > 0 {
		o.rejected = fmt.Sprintf("%s: %s", result.Rejections[0].Reason, result.Rejections[0].Detail)
	}
	return o, nil
}

// line makes the record of `raw` that a letter of a line goes back as. original
// is the record it came from, if it is still there.
//
// Of an event of several, the letter holds only the item that it was to be found
// in. That goes back by itself, if it gives the same row so as it does in its
// line; where what is around it matters, the line goes back, and only that event
// of it is meant.
func (p *preview) line(letter *topics.DeadLetterRecord, original *kgo.Record, force bool) (raw topics.RawLine, note string, err error) {
	raw = topics.RawLine{
		Source: letter.Source, Object: letter.Object, Line: letter.Line, ReceivedAt: letter.ReceivedAt, Bytes: letter.Bytes,
		Extent: letter.Extent, Event: letter.Event,
	}
	whole, there := p.originalOf(letter, original)
	if letter.Size > 0 {
		if !there {
			return raw, "", fmt.Errorf("the dead letter holds only the first of %d bytes, and its record is no longer in topic %s; fetch the object again",
				letter.Size, letter.Topic)
		}
		raw.Bytes = whole.Bytes
		if raw.Extent == event.PartOfLine {
			raw.Extent = event.OneEvent
		}
	}
	alone, err := p.of(&raw)
	if err != nil {
		return raw, "", err
	}
	if raw.Extent == event.PartOfLine && alone.count > 1 {
		return raw, "", fmt.Errorf("by now it gives %d events, of which only one can have its number; fetch the object again", alone.count)
	}
	became := alone
	if raw.Extent == event.PartOfLine && len(alone.rows) == 1 {
		switch {
		case original == nil:
			note = "its line is no longer in topic " + letter.Topic + "; what was around the event there is lost"
		case there:
			within := raw
			within.Bytes, within.Extent = whole.Bytes, event.OneEvent
			// By other rules the numbers in the line may be other events' now.
			if inLine, err := p.of(&within); err == nil && len(inLine.rows) == 1 && same(inLine.rows[0], alone.rows[0]) {
				if !bytes.Equal(inLine.rows[0], alone.rows[0]) {
					raw, note = within, "with the line around it"
				}
				became = inLine
			}
		}
	}
	if became.rejected != "" && became.count == 1 && !force {
		return raw, "", fmt.Errorf("it would be set aside again: %s (--force puts it back all the same)", became.rejected)
	}
	return raw, note, nil
}

// same tells whether two rows are of one event.
func same(a, b []byte) bool {
	var one, other event.Row
	return topics.DecodeNormalized(a, &one) == nil && topics.DecodeNormalized(b, &other) == nil &&
		one.ID == other.ID && one.AuditID == other.AuditID && one.Stage == other.Stage && one.Verb == other.Verb && one.RequestURI == other.RequestURI
}

// originalOf is the line that the letter's bytes are a part of. Where the topic
// was made anew other lines have its offsets.
func (p *preview) originalOf(letter *topics.DeadLetterRecord, original *kgo.Record) (topics.RawLine, bool) {
	if original == nil {
		return topics.RawLine{}, false
	}
	line, err := topics.DecodeRawLine(original)
	return line, err == nil && line.Object == letter.Object && line.Line == letter.Line && line.Extent == event.WholeLine
}

// again copies a record that was not understood, for a reader that may.
func again(original *kgo.Record, bytesOf []byte, topic string) (*kgo.Record, error) {
	if original == nil || !strings.HasPrefix(string(original.Value), string(bytesOf)) {
		return nil, fmt.Errorf("its record is no longer in topic %s, and the dead letter does not hold the headers", topic)
	}
	return &kgo.Record{Topic: topic, Key: original.Key, Value: original.Value, Headers: original.Headers}, nil
}

// needsOriginal tells whether a letter by itself does not hold enough.
func needsOriginal(d *topics.DeadLetterRecord, names topics.Names) bool {
	return d.Topic == names.Normalized || d.Reason == topics.ReasonMalformedRecord || d.Extent == event.PartOfLine || d.Size > 0
}
