package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/services/sink"
	"github.com/auditstream/auditstream/topics"
)

// splitInterval is how often a replay looks whether all objects are split.
const splitInterval = time.Second

// ownTopics are those of a replay from the buckets.
func (r *replay) ownTopics() config.Topics {
	own := r.Config.Topics
	own.Prefix += "replay-" + r.Name + "-"
	return own
}

// fillTopic is where the lines are that become rows, fillGroup who reads them.
func (r *replay) fillTopic() string {
	if r.From == FromObjects {
		return r.ownTopics().Names().Raw
	}
	return r.topic()
}

func (r *replay) fillGroup() string {
	if r.From == FromObjects {
		return r.group() + "-lines"
	}
	return r.group()
}

func (r *replay) splitGroup() string { return r.group() + "-split" }

// groups are all that this replay may have.
func (r *replay) groups() []string { return []string{r.group(), r.group() + "-lines", r.splitGroup()} }

// fetchObjects announces the selected objects in topics of the replay's own,
// and splits them there:
//
//	crash before the group says that all are announced: they are announced again,
//	and split once, as the log tells the first announcement of an object from others;
//	crash while splitting: the fetcher's transactions, as ever.
func (r *replay) fetchObjects(ctx context.Context) error {
	if r.From != FromObjects {
		return nil
	}
	if err := r.makeTopics(ctx); err != nil {
		return err
	}
	state, err := sink.ReadRun(ctx, r.client, r.group(), r.topic())
	if err != nil {
		return err
	}
	if !state.Ended() || len(state.Partitions) == 0 {
		objects, err := r.selectObjects(ctx)
		if err != nil {
			return err
		}
		if err := r.announce(ctx, objects); err != nil {
			return err
		}
		r.say("%s announced in %s", digits.Of(len(objects), "object"), r.ownTopics().Names().Objects)
		announced := make(map[int32]sink.Range)
		for partition, bounds := range r.plan.ranges {
			announced[partition] = sink.Range{From: bounds.Until, Until: bounds.Until}
		}
		if err := r.enter(ctx, "", announced); err != nil {
			return err
		}
	}
	return r.split(ctx)
}

func (r *replay) makeTopics(ctx context.Context) error {
	own := r.ownTopics()
	var settings []topics.Settings
	for _, one := range own.Settings() {
		if one.Name != own.Names().Normalized {
			settings = append(settings, one)
		}
	}
	plan, err := topics.NewPlan(ctx, r.admin, settings)
	if err != nil {
		return err
	}
	return plan.Apply(ctx)
}

// selectObjects are the objects of the plan, each once, by the announcement of
// the highest generation.
func (r *replay) selectObjects(ctx context.Context) (map[string]topics.Object, error) {
	ranges := make(kafka.Ranges)
	for partition, bounds := range r.plan.ranges {
		ranges.Set(r.topic(), partition, kafka.Range{From: bounds.From, To: bounds.Until})
	}
	objects := make(map[string]topics.Object)
	err := r.scanObjects(ctx, ranges, func(o *topics.Object) {
		if known, found := objects[o.ID]; !r.filter.wants(o.Source, o.ID) || found && known.Generation > o.Generation {
			return
		}
		objects[o.ID] = topics.Object{
			ID: o.ID, Generation: o.Generation, Source: o.Source, Endpoint: o.Endpoint, Region: o.Region, Bucket: o.Bucket, Key: o.Key,
			ETag: o.ETag, Version: o.Version, Size: o.Size, LastModified: o.LastModified, AnnouncedAt: o.AnnouncedAt,
			Cause: topics.CauseReplayed, FromLine: 1, Splitting: o.Splitting,
		}
	})
	return objects, err
}

func (r *replay) announce(ctx context.Context, objects map[string]topics.Object) error {
	topic := r.ownTopics().Names().Objects
	promise := kgo.AbortingFirstErrPromise(r.client)
	for _, object := range objects {
		record, err := object.Record(topic)
		if err != nil {
			return err
		}
		r.client.Produce(ctx, record, promise.Promise())
	}
	if err := promise.Err(); err != nil {
		return fmt.Errorf("announce objects in %s: %w", topic, err)
	}
	return nil
}

// split runs the fetcher over the replay's own topics until nothing is left to
// do in them.
func (r *replay) split(ctx context.Context) error {
	own := r.ownTopics()
	sources := make([]config.Source, len(r.Config.Sources))
	for i := range sources {
		sources[i] = r.Config.Sources[i]
		sources[i].Listing.Enabled = false
		sources[i].Queue = config.Queue{}
	}
	group := r.splitGroup()
	stage, err := fetcher.New(ctx, fetcher.Options{
		Config: r.Config.Fetcher, Sources: sources, S3: r.Config.S3, Topics: own, Kafka: r.Config.Kafka,
		Group: group, Log: r.Log, Registerer: prometheus.NewRegistry(), Health: telemetry.NewHealth(r.Log),
		AtStep: r.SplitHook,
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- stage.Run(running) }()
	lookErr := r.awaitSplit(running, group, ended)
	stop()
	if err := errors.Join(lookErr, <-ended); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w; run the same again to go on", ctx.Err())
	}
	return r.tellSetAside(ctx)
}

// awaitSplit returns when the fetcher has read its topic to the end. What an
// object still needs is in the topic in the same transaction that takes it from
// before: at the end there is nothing more to come.
func (r *replay) awaitSplit(ctx context.Context, group string, ended chan error) error {
	topic := r.ownTopics().Names().Objects
	for {
		for range 3 {
			select {
			case err := <-ended:
				ended <- nil
				if err == nil {
					err = errors.New("the fetcher has ended before its work")
				}
				return err
			default:
			}
			if !delay.For(ctx, splitInterval/3) {
				return nil // told to end, which the caller sees
			}
		}
		left, lines, err := r.leftToSplit(ctx, group, topic)
		if err != nil {
			r.Log.Warn("could not see how far the objects are", "error", err)
			continue
		}
		r.say("%s left to split, %s in %s", digits.Of(left, "announcement"), digits.Of(lines, "record"), r.ownTopics().Names().Raw)
		if left == 0 {
			return nil
		}
	}
}

// leftToSplit counts the records that the fetcher's group has before it, those
// of open transactions too.
func (r *replay) leftToSplit(ctx context.Context, group, topic string) (left, lines int64, err error) {
	ends, err := r.admin.ListEndOffsets(ctx, topic, r.ownTopics().Names().Raw)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("list end offsets: %w", err)
	}
	committed, err := r.admin.FetchOffsets(kadm.RequireStable(ctx), group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return 0, 0, fmt.Errorf("fetch the committed offsets of group %s: %w", group, err)
	}
	for partition, end := range ends[topic] {
		at, found := committed.Lookup(topic, partition)
		position := int64(0)
		if found && at.At > 0 {
			position = at.At
		}
		left += max(end.Offset-position, 0)
	}
	for _, end := range ends[r.ownTopics().Names().Raw] {
		lines += end.Offset
	}
	return left, lines, nil
}

// tellSetAside says which objects could not be read.
func (r *replay) tellSetAside(ctx context.Context) error {
	names := r.ownTopics().Names()
	bounds, err := kafka.Bounds(ctx, r.admin, names.DeadLetter, zeroTime, zeroTime)
	if err != nil {
		return err
	}
	options, err := kafka.Options(r.Config.Kafka, r.Log, nil)
	if err != nil {
		return err
	}
	return kafka.Scan(ctx, options, bounds, func(record *kgo.Record) error {
		letter, err := topics.DecodeDeadLetter(record)
		if err != nil {
			return err
		}
		r.say("set aside: object %s, %s: %s", letter.Object, letter.Reason, letter.Error)
		r.Log.Warn("object set aside by the replay", slog.String("object", letter.Object), slog.String("reason", string(letter.Reason)))
		return nil
	})
}

// planLines records the run over the lines, unless it is.
func (r *replay) planLines(ctx context.Context) error {
	state, err := sink.ReadRun(ctx, r.client, r.fillGroup(), r.fillTopic())
	if err != nil && !unknownGroup(err) {
		return err
	}
	id := r.plan.run.String()
	if state != nil && state.ID == id {
		return nil
	}
	ranges, err := r.wholeLines(ctx)
	if err != nil {
		return err
	}
	return sink.CommitRun(ctx, r.client, r.fillGroup(), r.fillTopic(), id, ranges)
}

// wholeLines are the ranges of all lines, once no transaction is open among
// them. That the fetcher's offsets are committed says that its last transaction
// was, and not yet that every partition of its lines has heard of it.
func (r *replay) wholeLines(ctx context.Context) (map[int32]sink.Range, error) {
	topic := r.fillTopic()
	for told := false; ; {
		ends, err := r.admin.ListEndOffsets(ctx, topic)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("list the end offsets of %s: %w", topic, err)
		}
		bounds, err := kafka.Bounds(ctx, r.admin, topic, zeroTime, zeroTime)
		if err != nil {
			return nil, err
		}
		ranges, open := make(map[int32]sink.Range), false
		for partition, part := range bounds[topic] {
			ranges[partition] = sink.Range{From: part.From, Until: part.To}
			open = open || part.To < ends[topic][partition].Offset
		}
		if !open {
			return ranges, nil
		}
		if !told {
			r.say("waiting for the last transaction in %s to end", topic)
			told = true
		}
		if !delay.For(ctx, awaitInterval) {
			return nil, ctx.Err()
		}
	}
}

// deleteTopics ends the replay's own topics, and what groups know of them: a
// run that begins anew begins with new ones.
func (r *replay) deleteTopics(ctx context.Context) error {
	if r.From != FromObjects || r.KeepTopics {
		return nil
	}
	names := r.ownTopics().Names()
	deleted, err := r.admin.DeleteTopics(ctx, names.Objects, names.Raw, names.DeadLetter, names.Ledger)
	if err != nil {
		return fmt.Errorf("delete the replay's own topics: %w", err)
	}
	for _, one := range deleted.Sorted() {
		if one.Err != nil && !errors.Is(one.Err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("delete topic %s: %w", one.Topic, one.Err)
		}
	}
	groups, err := r.admin.DeleteGroups(ctx, r.splitGroup(), r.fillGroup())
	if err != nil {
		return fmt.Errorf("delete the replay's groups: %w", err)
	}
	for _, one := range groups.Sorted() {
		if one.Err != nil && !errors.Is(one.Err, kerr.GroupIDNotFound) {
			return fmt.Errorf("delete group %s: %w", one.Group, one.Err)
		}
	}
	return nil
}
