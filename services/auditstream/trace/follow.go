package trace

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/services/sink"
)

// follow puts the hops together from all that was found.
func (t *Tracer) follow(ctx context.Context, wanted target) (*Trace, error) {
	e, err := t.gather(ctx, wanted)
	if err != nil {
		return nil, err
	}
	f := &follower{Tracer: t, evidence: e, trace: &Trace{ID: wanted.id(), Object: e.object, Line: wanted.line}}
	steps := []func(context.Context) error{f.stored, f.announcedHop, f.split, f.rawHop, f.aside, f.normalizedHop, f.row}
	if wanted.line == 0 {
		steps = []func(context.Context) error{f.stored, f.announcedHop, f.split, f.aside, f.row}
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	f.trace.conclude()
	return f.trace, nil
}

type follower struct {
	*Tracer
	*evidence
	trace *Trace
}

func (f *follower) add(hop Hop) *Hop {
	f.trace.Hops = append(f.trace.Hops, hop)
	return &f.trace.Hops[len(f.trace.Hops)-1]
}

// recordHop is a hop where a record was found.
func recordHop(name string, r *kgo.Record, format string, args ...any) Hop {
	at := r.Timestamp.UTC()
	return Hop{
		Name: name, State: Found, Topic: r.Topic, Partition: &r.Partition, Offset: &r.Offset, At: &at,
		Text: fmt.Sprintf(format, args...),
	}
}

func (f *follower) stored(context.Context) error {
	hop := Hop{Name: hopStored, State: Unknown, Text: "bucket and key are not known"}
	if !f.receivedAt.IsZero() {
		at := f.receivedAt.UTC()
		hop.At = &at
	}
	uri := f.object.URI()
	switch {
	case f.listed != nil:
		hop.State, hop.Text = Found, fmt.Sprintf("%s, %s, etag %s", uri, digits.Of(f.listed.Size, "byte"), f.listed.ETag)
		at := f.listed.LastModified.UTC()
		hop.At = &at
	case errors.Is(f.listedErr, objectstore.ErrMissing):
		hop.State, hop.Text = Absent, uri+" is no longer in the bucket"
	case errors.Is(f.listedErr, objectstore.ErrChanged):
		hop.State, hop.Text = Absent, uri+" was overwritten; etag then "+f.object.ETag
	case f.listedErr != nil:
		hop.Text = uri + ": the store could not say"
	case uri != "":
		hop.Text = uri + ": the store was not asked"
	}
	f.add(hop)
	return nil
}

func (f *follower) announcedHop(context.Context) error {
	if f.announced == nil {
		hop := f.notThere(hopAnnounced, f.names.Objects, f.searchObjects)
		if f.last != nil {
			hop.Text += "; a later record of the object is"
		}
		f.add(hop)
		return nil
	}
	o := &f.announcement
	again := ""
	if f.times > 1 {
		again = fmt.Sprintf(", %d times in all", f.times)
	}
	hop := f.add(recordHop(hopAnnounced, f.announced, "%s, generation %d, by source %s%s", o.Cause, o.Generation, o.Source, again))
	hop.Cause, hop.Generation = string(o.Cause), &o.Generation
	return nil
}

// retention is how a topic's is told.
func (f *follower) retention(topic string) string {
	for _, settings := range f.opts.Topics.Settings() {
		if settings.Name != topic {
			continue
		}
		if milliseconds, err := time.ParseDuration(settings.Configs["retention.ms"] + "ms"); err == nil {
			return ", retention " + days(milliseconds)
		}
	}
	return ""
}

func days(d time.Duration) string {
	if d > 0 && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d d", d/(24*time.Hour))
	}
	return d.String()
}

// notThere is a hop that a search of the topic did not find.
func (f *follower) notThere(name, topic string, s searched) Hop {
	if s.cut {
		return Hop{Name: name, State: Expired, Topic: topic, Text: "no longer in the topic" + f.retention(topic)}
	}
	return Hop{Name: name, State: Absent, Topic: topic, Text: "not there"}
}

// split is where the fetcher is with the object. Of a line it only tells what
// is in its way.
func (f *follower) split(ctx context.Context) error {
	if f.finished != nil {
		at := f.finishedAt.UTC()
		lines := f.finished.Lines
		hop := Hop{Name: hopSplit, State: Found, Topic: f.names.Ledger, At: &at, Lines: &lines}
		switch {
		case f.finished.Reason != "":
			hop.State, hop.Reason = Absent, f.finished.Reason
			hop.Text = fmt.Sprintf("set aside after line %d: %s", lines, f.finished.Reason)
		default:
			hop.Text = fmt.Sprintf("%s, %s", digits.Of(lines, "line"), digits.Of(f.finished.Bytes, "byte"))
		}
		if f.line == 0 {
			f.add(hop)
		}
		return nil
	}
	if f.last == nil || f.objectLetter != nil || f.raw != nil || f.normalized != nil || f.letter != nil || f.skip != nil {
		return nil
	}
	p, err := f.progress(ctx, "fetcher", f.last.Topic, f.last.Partition)
	if err != nil {
		return err
	}
	switch {
	case !p.known:
		f.add(Hop{Name: hopSplit, State: Unknown, Text: "where the fetcher is could not be asked"})
	case !p.passed(f.last.Offset):
		f.add(f.waiting(hopSplit, f.last, p, fmt.Sprintf("the fetcher has not come to it: next is line %d", f.lastLink.FromLine)))
	case f.line == 0:
		f.add(Hop{Name: hopSplit, State: Unknown, Text: "the fetcher is through with it; how many lines it had is not in topic " + f.names.Ledger})
	}
	return nil
}

func (f *follower) waiting(name string, at *kgo.Record, p progress, text string) Hop {
	lag := p.lag
	return Hop{
		Name: name, State: Waiting, Topic: at.Topic, Partition: &at.Partition, Lag: &lag,
		Text: fmt.Sprintf("not there yet: %s (lag %d in %s/%d)", text, lag, at.Topic, at.Partition),
	}
}

func (f *follower) rawHop(context.Context) error {
	switch {
	case f.raw != nil:
		f.add(recordHop(hopRaw, f.raw, "line %d, %s", f.line, digits.Of(len(f.raw.Value), "byte")))
	case f.trace.is(hopSplit, Waiting), !f.expectsRaw(f.names.Raw) && (f.skip != nil || f.letter != nil):
		// It is told there.
	case f.finished != nil && f.line > f.finished.Lines && f.finished.Reason == "":
		f.trace.beyond = true
		f.add(Hop{Name: hopRaw, State: Absent, Topic: f.names.Raw, Text: fmt.Sprintf("the object has only %d lines", f.finished.Lines)})
	case f.objectLetter != nil && f.line > f.objectLetter.Line:
		f.add(Hop{Name: hopRaw, State: Absent, Topic: f.names.Raw, Text: fmt.Sprintf("the object was set aside after line %d", f.objectLetter.Line)})
	default:
		f.add(f.notThere(hopRaw, f.names.Raw, f.searchRaw))
	}
	return nil
}

// aside is what became of it instead of a row.
func (f *follower) aside(context.Context) error {
	letter, found := f.letter, f.letterRecord
	if letter == nil && f.objectLetter != nil && (f.line == 0 || f.line > f.objectLetter.Line) {
		letter, found = f.objectLetter, f.objectRecord
	}
	if letter != nil {
		hop := f.add(recordHop(hopDeadLetter, found, "%s, by the %s: %s", letter.Reason, letter.Stage, letter.Error))
		hop.Stage, hop.Reason, hop.Error = letter.Stage, string(letter.Reason), letter.Error
	}
	if f.line == 0 && f.letters > 0 {
		f.note("%d dead letters are of lines of %s", f.letters, f.objectID)
	}
	if f.skip != nil {
		text := fmt.Sprintf("%s, by the %s, as it has to be", f.skip.Reason, f.skip.Stage)
		at := f.skippedAt.UTC()
		skipped := Hop{Name: hopSkipped, State: Found, At: &at, Text: text + ", says the ledger's table"}
		if f.skipRecord != nil {
			skipped = recordHop(hopSkipped, f.skipRecord, "%s", text)
		}
		hop := f.add(skipped)
		hop.Stage, hop.Reason = f.skip.Stage, f.skip.Reason
	}
	return nil
}

func (f *follower) normalizedHop(ctx context.Context) error {
	switch {
	case f.normalized != nil:
		f.add(recordHop(hopNormalized, f.normalized, "%s", digits.Of(len(f.normalized.Value), "byte")))
		return nil
	case f.trace.is(hopDeadLetter, Found), f.trace.is(hopSkipped, Found), f.trace.is(hopSplit, Waiting), f.trace.is(hopRaw, Absent) && !f.searchNorm.cut && !f.hasRow():
		return nil // there is nothing to be there
	}
	hop := f.notThere(hopNormalized, f.names.Normalized, f.searchNorm)
	if f.raw != nil {
		p, err := f.progress(ctx, "enricher", f.raw.Topic, f.raw.Partition)
		if err != nil {
			return err
		}
		switch {
		case p.known && !p.passed(f.raw.Offset):
			hop = f.waiting(hopNormalized, f.raw, p, "the enricher has not come to it")
		case p.known && hop.State == Absent:
			hop.Text = fmt.Sprintf("not there, although the enricher is at offset %d of %s/%d", p.committed, f.raw.Topic, f.raw.Partition)
		}
	}
	f.add(hop)
	return nil
}

// tableName is the table's without quotes.
func (f *follower) tableName() string { return strings.ReplaceAll(f.opts.Table, "`", "") }

func (f *follower) hasRow() bool { return f.table != nil && f.table.physical > 0 }

func (f *follower) row(ctx context.Context) error {
	if f.hasRow() {
		r := f.table
		eventTime, receivedAt := r.eventTime.UTC(), r.receivedAt.UTC()
		hop := f.add(Hop{Name: hopRow, State: Found, Rows: &r.physical, IDs: &r.ids, ReceivedAt: &receivedAt})
		hop.Text = fmt.Sprintf("%d in %s", r.physical, f.tableName())
		if r.physical != r.ids {
			hop.Text += fmt.Sprintf(", of %d ids: some are there several times until parts merge", r.ids)
		}
		hop.Text += ", receivedAt " + receivedAt.Format(time.RFC3339)
		if f.line > 0 {
			hop.EventTime = &eventTime
			hop.Text += fmt.Sprintf(", eventTime %s, %s, %s", eventTime.Format(time.RFC3339), r.eventName, r.stage)
		}
		return nil
	}
	if f.trace.beyond || f.line == 0 && f.trace.is(hopSplit, Waiting) || f.line > 0 && f.normalized == nil && (f.trace.is(hopDeadLetter, Found) ||
		f.trace.is(hopSkipped, Found) || f.trace.is(hopSplit, Waiting) || f.trace.is(hopNormalized, Waiting)) {
		return nil // there is nothing to be there
	}
	hop := Hop{Name: hopRow, State: Absent, Text: "not in " + f.tableName()}
	if f.table == nil {
		hop = Hop{Name: hopRow, State: Unknown, Text: "the table could not be asked"}
	}
	if f.normalized == nil || f.table == nil {
		f.add(hop)
		return nil
	}
	p, err := f.progress(ctx, "sink", f.normalized.Topic, f.normalized.Partition)
	if err != nil {
		return err
	}
	switch {
	case p.known && !p.passed(f.normalized.Offset):
		text := "the sink has not come to it"
		if intent, err := sink.ReadIntent(p.committed, p.metadata); err == nil && intent != nil && f.normalized.Offset < intent.To {
			text = fmt.Sprintf("the sink is inserting it: offsets [%d,%d), attempt %d, since %s",
				intent.From, intent.To, intent.Attempt, intent.At.Format(time.RFC3339))
		}
		hop = f.waiting(hopRow, f.normalized, p, text)
	case f.sourceTTL > 0 && time.Since(f.receivedAt.AddDate(0, 0, int(f.sourceTTL))) > 0:
		hop.State, hop.Text = Expired, fmt.Sprintf("older than the %d days that its source's rows are kept", f.sourceTTL)
	case p.known:
		hop.Text += fmt.Sprintf(", although the sink is at offset %d of %s/%d: it was deleted, or the table is another one",
			p.committed, f.normalized.Topic, f.normalized.Partition)
	}
	f.add(hop)
	return nil
}
