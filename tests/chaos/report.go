package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/topics"
)

func sortFaults(faults []fault) {
	slices.SortFunc(faults, func(a, b fault) int { return strings.Compare(a.kind, b.kind) })
}

// report prints the outcome and says what is wrong with it.
func (c *campaign) report(ctx context.Context, found *outcome) error {
	fmt.Fprintf(c.out, "\nFaults, how often each fired, and its longest recovery\n%s\n", c.ledger.table())
	c.watch.mu.Lock()
	longest, stall, unfinished := c.watch.longest, c.watch.stall, len(c.watch.pending)
	c.watch.mu.Unlock()
	fmt.Fprintf(c.out, `lines            %d in %d objects
rows             %d, expected %d
dead letters     %d, expected %d
faults           %d
process kills    %d
lost             %d
doubled          %d
surplus          %d
longest recovery %.1f s from %q until every partition it held up had moved on (%d not measured to the end)
longest wait     %.1f s, %s/%d at %.0f s
took             %.0f s, %.0f lines/s
seed             %d, kafka %s
`,
		found.lines, len(c.feeder.objects), found.rows, c.feeder.expectedRows.Load(), found.letters, c.feeder.expectedLetters.Load(),
		c.ledger.total(), c.ledger.kills(), len(found.lost), len(found.doubled), len(found.surplus),
		longest.took.Seconds(), longest.kind, unfinished, stall.took.Seconds(), stall.place.stage, stall.place.partition, stall.at.Sub(c.ledger.begun).Seconds(),
		time.Since(c.started).Seconds(), float64(found.lines)/time.Since(c.started).Seconds(), c.seed, c.kafka)

	var wrong []error
	if !found.clean() {
		wrong = append(wrong, c.describe(ctx, found))
	}
	if never := c.ledger.missing(); len(never) > 0 {
		wrong = append(wrong, fmt.Errorf("these faults never fired: %s", strings.Join(never, ", ")))
	}
	c.errMu.Lock()
	defer c.errMu.Unlock()
	for n, problem := range c.problems {
		if n == problemsTold {
			wrong = append(wrong, fmt.Errorf("and %d more like these in faults.log", len(c.problems)-n))
			break
		}
		wrong = append(wrong, errors.New(problem))
	}
	if len(wrong) == 0 {
		fmt.Fprintln(c.out, "every line is there, once")
		return nil
	}
	return fmt.Errorf("seed %d; logs are in %s\n%w", c.seed, c.directory, errors.Join(wrong...))
}

// problemsTold of those noticed are printed.
const problemsTold = 8

// traced is how many of the ids that are wrong are looked for in the topics.
const traced = 5

// describe writes all ids that are wrong to a file, and finds out of the first
// few where they were seen.
func (c *campaign) describe(ctx context.Context, found *outcome) error {
	var text strings.Builder
	wanted := map[string]bool{}
	for _, one := range []struct {
		what string
		ids  []string
	}{{"lost", found.lost}, {"doubled", found.doubled}, {"surplus", found.surplus}} {
		slices.Sort(one.ids)
		for n, id := range one.ids {
			fmt.Fprintf(&text, "%s %s\n", one.what, id)
			if bare, _, _ := strings.Cut(id, " "); n < traced || n == len(one.ids)-1 {
				wanted[bare] = true
			}
		}
	}
	path := filepath.Join(c.directory, "wrong.txt")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return err
	}
	trace := c.trace(ctx, wanted)
	return fmt.Errorf("lost %d, doubled %d, surplus %d: %s\n%s", len(found.lost), len(found.doubled), len(found.surplus), path, trace)
}

// trace says where in the topics and in which parts of the table ids are.
func (c *campaign) trace(ctx context.Context, wanted map[string]bool) string {
	var text strings.Builder
	told := func(id string, format string, arguments ...any) {
		if wanted[id] {
			fmt.Fprintf(&text, "  %s: %s\n", id, fmt.Sprintf(format, arguments...))
		}
	}
	failed := c.readAll(ctx, c.topic(topics.Raw), func(r *kgo.Record) error {
		if line, err := topics.DecodeRawLine(r); err == nil {
			told(identity.RowID(line.Object, line.Line, 0), "raw/%d at %d, %s", r.Partition, r.Offset, r.Timestamp.UTC().Format(time.RFC3339Nano))
		}
		return nil
	})
	failed = errors.Join(failed, c.readAll(ctx, c.topic(topics.Normalized), func(r *kgo.Record) error {
		var row event.Row
		if err := topics.DecodeNormalized(r.Value, &row); err == nil {
			told(row.ID, "normalized/%d at %d, %s", r.Partition, r.Offset, r.Timestamp.UTC().Format(time.RFC3339Nano))
		}
		return nil
	}))
	for id := range wanted {
		rows, err := c.table.Query(ctx, "SELECT _part, toString(receivedAt) FROM "+tableName+" WHERE id = '"+id+"'")
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		for rows.Next() {
			var part, received string
			if err := rows.Scan(&part, &received); err == nil {
				told(id, "row in part %s, received %s", part, received)
			}
		}
		rows.Close()
	}
	c.feeder.mu.Lock()
	defer c.feeder.mu.Unlock()
	for _, o := range c.feeder.objects {
		for id := range wanted {
			if strings.HasPrefix(id, o.id) {
				told(id, "object %s, %d lines, corrupt %v", o.key, len(o.kinds), o.corrupt)
			}
		}
	}
	if failed != nil {
		fmt.Fprintf(&text, "  (%v)\n", failed)
	}
	return text.String()
}
