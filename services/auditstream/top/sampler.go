package top

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/topics"
)

// Options of a Sampler.
type Options struct {
	Kafka  config.Kafka
	Topics topics.Names
	// Window is how far back dead letters are counted.
	Window time.Duration
	// Patience bounds what one sample reads from topics; what is not known by then
	// is said to be unknown, and comes with a later sample. Zero: two seconds.
	Patience time.Duration
	Log      *slog.Logger
	Now      func() time.Time // for tests; nil is time.Now
}

const defaultPatience = 2 * time.Second

// The stages that are shown though nobody runs them.
var stages = []string{"fetcher", "enricher", "sink"}

// Sampler looks at the pipeline. Its methods may be called from anywhere, and
// do one thing at a time.
type Sampler struct {
	opts        Options
	client      *kgo.Client
	admin       *kadm.Client
	deadLetters *deadLetters
	ages        *ages

	mu     sync.Mutex
	closed bool
	before *snapshot
}

// snapshot is what the rates of the next sample compare with.
type snapshot struct {
	at        time.Time
	committed map[groupPartition]int64
	ends      map[string]map[int32]int64
}

type groupPartition struct {
	group     string
	topic     string
	partition int32
}

// NewSampler connects to nothing yet. Close ends it.
func NewSampler(opts Options) (*Sampler, error) {
	if opts.Patience <= 0 {
		opts.Patience = defaultPatience
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	client, options, err := kafka.Connect(opts.Kafka, opts.Log)
	if err != nil {
		return nil, err
	}
	s := &Sampler{opts: opts, client: client, admin: kadm.NewClient(client), ages: &ages{options: options}}
	if s.deadLetters, err = newDeadLetters(options, opts.Topics.DeadLetter, opts.Window); err != nil {
		client.Close()
		return nil, err
	}
	return s, nil
}

// Close waits for a sample under way, whose context should be done.
func (s *Sampler) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.deadLetters.close()
		s.client.Close()
	}
}

var errClosed = errors.New("the sampler is closed")

// Sample looks once. An error means that the brokers could not be asked at all;
// what else could not be seen is among the sample's problems.
func (s *Sampler) Sample(ctx context.Context) (*Sample, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	look := &look{Sampler: s, sample: &Sample{At: s.opts.Now().UTC(), Problems: []string{}}}
	if err := look.groups(ctx); err != nil {
		return nil, fmt.Errorf("look at the groups: %w", err)
	}
	if err := look.offsets(ctx); err != nil {
		return nil, fmt.Errorf("look at the topics: %w", err)
	}
	look.partitions()
	look.transactions(ctx)
	reading, cancel := context.WithTimeout(ctx, s.opts.Patience)
	defer cancel()
	look.readAges(reading)
	look.countDeadLetters(reading)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	look.rates()
	for i := range look.sample.Stages {
		look.sample.Stages[i].sum()
	}
	return look.sample, nil
}

// look is one sample in the making.
type look struct {
	*Sampler
	sample *Sample

	names     []string // of the groups, as the stages are
	committed []kadm.OffsetResponses
	described kadm.DescribedGroups
	starts    kadm.ListedOffsets
	stable    kadm.ListedOffsets
	ends      kadm.ListedOffsets
}

// problem keeps what could not be looked at. Brokers repeat themselves for every
// partition; one time is enough.
func (l *look) problem(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(l.sample.Problems, text) {
		l.sample.Problems = append(l.sample.Problems, text)
	}
}

// groups finds the groups and asks for their members and offsets.
func (l *look) groups(ctx context.Context) error {
	prefix := l.opts.Kafka.Group + "-"
	for _, stage := range stages {
		l.names = append(l.names, prefix+stage)
	}
	listed, err := l.admin.ListGroups(ctx)
	if err != nil && len(listed) == 0 {
		if ctx.Err() != nil || !isAnswer(err) {
			return err
		}
		l.problem("list the groups: %s", err) // not allowed to, say: the known ones can still be asked
	}
	for _, group := range listed.Groups() {
		if strings.HasPrefix(group, prefix) && !slices.Contains(l.names, group) {
			l.names = append(l.names, group)
		}
	}
	if l.described, err = l.admin.DescribeGroups(ctx, l.names...); err != nil && len(l.described) == 0 {
		l.problem("describe the groups: %s", err)
	}
	fetched := l.admin.FetchManyOffsets(ctx, l.names...)
	for _, group := range l.names {
		offsets := fetched[group]
		if offsets.Err != nil && !errors.Is(offsets.Err, kerr.GroupIDNotFound) {
			l.problem("read the offsets of group %s: %s", group, offsets.Err)
		}
		l.committed = append(l.committed, offsets.Fetched)
		l.sample.Stages = append(l.sample.Stages, l.stage(strings.TrimPrefix(group, prefix), group))
	}
	return nil
}

// isAnswer tells a broker's refusal from brokers that are away.
func isAnswer(err error) bool {
	var refused *kerr.Error
	var denied *kadm.AuthError
	return errors.As(err, &refused) || errors.As(err, &denied)
}

func (l *look) stage(name, group string) Stage {
	stage := Stage{Name: name, Group: group, State: "unknown", Instances: []Instance{}, Partitions: []Partition{}}
	described, found := l.described[group]
	switch {
	case !found:
		return stage
	case errors.Is(described.Err, kerr.GroupIDNotFound):
		stage.State = "Dead"
		return stage
	case described.Err != nil:
		l.problem("describe group %s: %s", group, described.Err)
		return stage
	}
	stage.State = described.State
	for i := range described.Members {
		member := &described.Members[i]
		instance := Instance{
			ClientID: member.ClientID, Host: strings.TrimPrefix(member.ClientHost, "/"), Member: member.MemberID,
			Partitions: make(map[string][]int32),
		}
		if assigned, ok := member.Assigned.AsConsumer(); ok {
			for _, topic := range assigned.Topics {
				partitions := slices.Clone(topic.Partitions)
				slices.Sort(partitions)
				instance.Partitions[topic.Topic] = partitions
			}
		}
		stage.Instances = append(stage.Instances, instance)
	}
	return stage
}

// inputs of a group: those that the known stages have, and what another's
// members have or its offsets are of.
func (l *look) inputs(stage int) []string {
	switch l.sample.Stages[stage].Name {
	case "fetcher":
		return []string{l.opts.Topics.Objects}
	case "enricher":
		return []string{l.opts.Topics.Raw}
	case "sink":
		return []string{l.opts.Topics.Normalized}
	}
	found := make(map[string]bool)
	for topic := range l.committed[stage] {
		found[topic] = true
	}
	for _, instance := range l.sample.Stages[stage].Instances {
		for topic := range instance.Partitions {
			found[topic] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// outputs are the topics whose growth tells what a stage produces.
func (l *look) outputs(stage string) []string {
	switch stage {
	case "fetcher":
		return []string{l.opts.Topics.Raw}
	case "enricher":
		return []string{l.opts.Topics.Normalized}
	}
	return nil
}

// offsets asks for the bounds of every topic that a group reads or writes.
func (l *look) offsets(ctx context.Context) error {
	wanted := map[string]bool{l.opts.Topics.DeadLetter: true}
	for i := range l.sample.Stages {
		for _, topic := range slices.Concat(l.inputs(i), l.outputs(l.sample.Stages[i].Name)) {
			wanted[topic] = true
		}
	}
	names := slices.Sorted(maps.Keys(wanted))
	for _, ask := range []struct {
		into *kadm.ListedOffsets
		list func(context.Context, ...string) (kadm.ListedOffsets, error)
	}{
		{&l.starts, l.admin.ListStartOffsets},
		{&l.stable, l.admin.ListCommittedOffsets},
		// The end is asked for last, so that no lag comes out below zero.
		{&l.ends, l.admin.ListEndOffsets},
	} {
		listed, err := ask.list(ctx, names...)
		if err != nil && len(listed) == 0 {
			return err
		}
		*ask.into = listed
		listed.Each(func(offset kadm.ListedOffset) {
			if offset.Err != nil {
				l.problem("topic %s: %s", offset.Topic, offset.Err)
			}
		})
	}
	return nil
}
