package replay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/services/sink"
	"github.com/auditstream/auditstream/topics"
)

// plan is what the replay's group has recorded, or is to record.
type plan struct {
	arguments string // a hash of what the replay was asked for
	run       runID
	// ranges are the parts of the topic that the replay begins at.
	ranges map[int32]sink.Range
	// known: the run is recorded, and this is how far it is.
	known *sink.RunState
	over  bool // it has ended, and is not asked for again
}

// runID names a run in the group's metadata and in the tokens of its inserts.
type runID struct {
	arguments string
	number    int
	// replaces: rows take the place of others with the same ids.
	replaces bool
	phase    string
}

// Phases of a replay. The main one has no name.
const (
	phaseCatchUp = "c" // what came while the main one ran
	phaseDone    = "d"
)

func (id runID) String() string {
	text := id.arguments + "." + strconv.Itoa(id.number)
	if id.replaces {
		text += "r"
	}
	return text + id.phase
}

func parseRunID(text string) (id runID, err error) {
	var rest string
	id.arguments, rest, _ = strings.Cut(text, ".")
	for _, phase := range []string{phaseCatchUp, phaseDone} {
		if cut, found := strings.CutSuffix(rest, phase); found {
			rest, id.phase = cut, phase
		}
	}
	rest, id.replaces = strings.CutSuffix(rest, "r")
	if id.number, err = strconv.Atoi(rest); err != nil {
		return id, fmt.Errorf("the group's run %q is none of a replay: %w", text, err)
	}
	return id, nil
}

// digest is a hash of what decides which rows go where.
func (r *replay) digest() string {
	database, live := clickhouse.TableName(r.Config.ClickHouse)
	offsets := make(map[string]sink.Range)
	for partition, bounds := range r.Offsets {
		offsets[strconv.Itoa(int(partition))] = bounds
	}
	asked := r.Asked
	if asked == "" {
		asked = fmt.Sprintf("%d %d", r.Since.UnixMilli(), r.Until.UnixMilli())
	}
	text, err := json.Marshal(map[string]any{
		"from": r.From, "asked": asked, "offsets": offsets, "source": r.Source, "object": r.Object,
		"table": database + "." + live, "into": r.Into, "swap": r.Swap, "topics": r.names,
	})
	if err != nil { // texts and numbers only
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}

// group is the replay's own; of the topic that it begins at.
func (r *replay) group() string { return r.Config.Kafka.Group + "-replay-" + r.Name }

// topic is where the replay begins.
func (r *replay) topic() string {
	switch r.From {
	case FromNormalized:
		return r.names.Normalized
	case FromObjects:
		return r.names.Objects
	}
	return r.names.Raw
}

// resume finds out how far the replay is, or makes the plan of a new one.
func (r *replay) resume(ctx context.Context) error {
	state, err := sink.ReadRun(ctx, r.client, r.group(), r.topic())
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return err
	}
	number := 1
	if state != nil {
		id, err := parseRunID(state.ID)
		if err != nil {
			return err
		}
		if id.arguments != r.plan.arguments {
			return refuse("another replay was begun under the name %s, with other arguments: give the same again, or another --name", r.Name)
		}
		if id.phase != phaseDone || !r.Again {
			r.plan.run, r.plan.known, r.plan.ranges, r.plan.over = id, state, state.Whole, id.phase == phaseDone
			return nil
		}
		number = id.number + 1
	}
	replaces := r.Into == ""
	if !replaces {
		if replaces, err = r.holdsRows(ctx); err != nil {
			return err
		}
	}
	r.plan.run = runID{arguments: r.plan.arguments, number: number, replaces: replaces}
	r.plan.ranges, err = r.bounds(ctx)
	return err
}

// bounds resolves times to offsets.
func (r *replay) bounds(ctx context.Context) (map[int32]sink.Range, error) {
	found, err := kafka.Bounds(ctx, r.admin, r.topic(), r.Since, r.Until)
	if err != nil {
		return nil, err
	}
	ranges := make(map[int32]sink.Range)
	for partition, bounds := range found[r.topic()] {
		ranges[partition] = sink.Range{From: bounds.From, Until: bounds.To}
	}
	if r.Offsets == nil {
		return ranges, nil
	}
	for partition, whole := range ranges {
		asked, given := r.Offsets[partition]
		if !given {
			ranges[partition] = sink.Range{From: whole.Until, Until: whole.Until}
			continue
		}
		if asked.Until == 0 {
			asked.Until = whole.Until
		}
		if asked.From < whole.From || asked.Until > whole.Until || asked.From > asked.Until {
			return nil, refuse("partition %d of %s has the offsets %d to %d, asked for were %d to %d",
				partition, r.topic(), whole.From, whole.Until, asked.From, asked.Until)
		}
		ranges[partition] = asked
	}
	for partition := range r.Offsets {
		if _, there := ranges[partition]; !there {
			return nil, refuse("topic %s has no partition %d", r.topic(), partition)
		}
	}
	return ranges, nil
}

// record writes the plan down, unless it is.
func (r *replay) record(ctx context.Context) error {
	if err := r.awaitAlone(ctx); err != nil || r.plan.known != nil {
		return err
	}
	return sink.CommitRun(ctx, r.client, r.group(), r.topic(), r.plan.run.String(), r.plan.ranges)
}

// awaitAlone waits until the group has no member: one that was killed is one
// until its session ends.
func (r *replay) awaitAlone(ctx context.Context) error {
	deadline := time.Now().Add(r.Config.Kafka.SessionTimeout + 10*time.Second)
	for told := false; ; {
		described, err := r.admin.DescribeGroups(ctx, r.group())
		if err == nil {
			err = described[r.group()].Err
		}
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return fmt.Errorf("describe group %s: %w", r.group(), err)
		}
		if len(described[r.group()].Members) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return refuse("this replay is running elsewhere (group %s has a member)", r.group())
		}
		if !told {
			r.say("waiting for the session of the last process to end")
			told = true
		}
		if !delay.For(ctx, 500*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// enter records the next phase of the run.
func (r *replay) enter(ctx context.Context, phase string, ranges map[int32]sink.Range) error {
	r.plan.run.phase = phase
	if err := r.awaitAlone(ctx); err != nil {
		return err
	}
	return sink.CommitRun(ctx, r.client, r.group(), r.topic(), r.plan.run.String(), ranges)
}

// finish records that nothing is left to do.
func (r *replay) finish(ctx context.Context) error {
	ranges := make(map[int32]sink.Range)
	for partition, bounds := range r.plan.ranges {
		ranges[partition] = sink.Range{From: bounds.Until, Until: bounds.Until}
	}
	if err := r.enter(ctx, phaseDone, ranges); err != nil {
		return err
	}
	return r.deleteTopics(ctx)
}

// describe prints the plan of a dry run.
func (r *replay) describe(ctx context.Context) error {
	mode := "replacing rows with the same ids in " + r.swap.Live()
	if r.Into != "" {
		mode = "into " + r.swap.Other()
		if r.Swap {
			mode += ", which then takes the place of " + r.swap.Live()
		}
	}
	r.say("dry run of replay %s (group %s), %s", r.Name, r.group(), mode)
	if r.plan.known != nil {
		r.say("it was begun before and would go on")
	}
	for _, partition := range slices.Sorted(maps.Keys(r.plan.ranges)) {
		bounds := r.plan.ranges[partition]
		r.say("%s/%d  offsets %d to %d", r.topic(), partition, bounds.From, bounds.Until)
	}
	if r.From == FromObjects {
		objects, err := r.selectObjects(ctx)
		if err != nil {
			return err
		}
		r.say("%s", digits.Of(len(objects), "object"))
	}
	return nil
}

// tellLedger says that rows come again, before the first one does.
func (r *replay) tellLedger(ctx context.Context) error {
	_, table := clickhouse.TableName(r.Config.ClickHouse)
	if r.Into != "" && !r.Swap {
		table = r.Into
	}
	object := r.filter.onlyObject()
	entry := topics.ReplayEntry(r.plan.run.String()+"-"+r.Name, r.Source, object, table, 0, 0, time.Now().UnixMilli())
	record, err := entry.Record(r.names.Ledger)
	if err != nil {
		return err
	}
	if err := r.client.ProduceSync(ctx, record).FirstErr(); err != nil {
		return fmt.Errorf("tell the ledger: %w", err)
	}
	return nil
}
