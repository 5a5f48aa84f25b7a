package topics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// ErrConflict marks a topic that is there and can't be made as the settings
// want it. It takes a person: nothing here ever deletes.
var ErrConflict = errors.New("topic can't be made as configured")

// Change is one step of a plan, or a conflict that no step can mend.
type Change struct {
	Topic    string
	Setting  string // "", when the topic itself is created; "partitions", or a Kafka topic config
	Have     string
	Want     string
	Conflict string // why it can't be done; empty when it can
}

// String says the change in one line.
func (c Change) String() string {
	switch {
	case c.Conflict != "":
		return fmt.Sprintf("%s: %s is %s, configured %s: %s", c.Topic, c.Setting, c.Have, c.Want, c.Conflict)
	case c.Setting == "":
		return fmt.Sprintf("%s: create, %s", c.Topic, c.Want)
	default:
		return fmt.Sprintf("%s: %s %s → %s", c.Topic, c.Setting, c.Have, c.Want)
	}
}

// Plan is what separates a cluster's topics from their settings.
type Plan struct {
	Changes  []Change
	client   *kadm.Client
	settings []Settings
}

// NewPlan compares the settings with the cluster. It changes nothing.
//
// A topic's configs are compared by their effective values, so that a broker's
// default that says the same is no difference.
func NewPlan(ctx context.Context, client *kadm.Client, settings []Settings) (*Plan, error) {
	plan := &Plan{client: client, settings: settings}
	names := make([]string, len(settings))
	for i := range settings {
		names[i] = settings[i].Name
	}
	// Asking for authorized operations makes the client ask the broker instead
	// of its own cache, which may be seconds old.
	details, err := client.ListTopics(kadm.WithAuthorizedOps(ctx), names...)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	for i := range settings {
		setting := &settings[i]
		detail, found := details[setting.Name]
		if !found || errors.Is(detail.Err, kerr.UnknownTopicOrPartition) {
			plan.Changes = append(plan.Changes, Change{Topic: setting.Name, Want: setting.describe()})
			continue
		}
		if detail.Err != nil {
			return nil, fmt.Errorf("describe topic %s: %w", setting.Name, detail.Err)
		}
		changes, err := compareTopic(ctx, client, setting, detail)
		if err != nil {
			return nil, err
		}
		plan.Changes = append(plan.Changes, changes...)
	}
	return plan, nil
}

func (s *Settings) describe() string {
	parts := []string{fmt.Sprintf("partitions %d", s.Partitions)}
	if s.ReplicationFactor > 0 {
		parts = append(parts, fmt.Sprintf("replication factor %d", s.ReplicationFactor))
	}
	for _, key := range s.configKeys() {
		parts = append(parts, key+" "+s.Configs[key])
	}
	return strings.Join(parts, ", ")
}

func (s *Settings) configKeys() []string {
	keys := make([]string, 0, len(s.Configs))
	for key := range s.Configs {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func compareTopic(ctx context.Context, client *kadm.Client, want *Settings, have kadm.TopicDetail) ([]Change, error) {
	var changes []Change
	partitions := int32(len(have.Partitions)) //nolint:gosec // Kafka's own range
	change := Change{Topic: want.Name, Setting: "partitions", Have: fmt.Sprint(partitions), Want: fmt.Sprint(want.Partitions)}
	switch {
	case partitions == want.Partitions:
	case want.PartitionsFixed:
		change.Conflict = "its records are found by the hash of their key, so the count stays as it was made; configure " + fmt.Sprint(partitions)
		changes = append(changes, change)
	case partitions > want.Partitions:
		change.Conflict = "Kafka can't take partitions away; configure " + fmt.Sprint(partitions)
		changes = append(changes, change)
	default:
		changes = append(changes, change)
	}
	if replicas := have.Partitions.NumReplicas(); want.ReplicationFactor > 0 && replicas != int(want.ReplicationFactor) {
		changes = append(changes, Change{
			Topic: want.Name, Setting: "replication factor", Have: fmt.Sprint(replicas), Want: fmt.Sprint(want.ReplicationFactor),
			Conflict: "reassign its partitions with the cluster's own tools",
		})
	}
	described, err := client.DescribeTopicConfigs(ctx, want.Name)
	if err != nil {
		return nil, fmt.Errorf("describe configs of topic %s: %w", want.Name, err)
	}
	resource, err := described.On(want.Name, nil)
	if err == nil {
		err = resource.Err
	}
	if err != nil {
		return nil, fmt.Errorf("describe configs of topic %s: %w", want.Name, err)
	}
	effective := map[string]string{}
	for _, config := range resource.Configs {
		effective[config.Key] = config.MaybeValue()
	}
	for _, key := range want.configKeys() {
		// A broker that doesn't tell of a config doesn't know it (Redpanda lacks
		// some of Kafka's).
		if value, known := effective[key]; known && value != want.Configs[key] {
			changes = append(changes, Change{Topic: want.Name, Setting: key, Have: value, Want: want.Configs[key]})
		}
	}
	return changes, nil
}

// Conflicts is the error that joins the changes that can't be made, each
// wrapping ErrConflict; nil when there are none.
func (p *Plan) Conflicts() error {
	var conflicts []error
	for _, change := range p.Changes {
		if change.Conflict != "" {
			conflicts = append(conflicts, fmt.Errorf("%w: %s", ErrConflict, change))
		}
	}
	return errors.Join(conflicts...)
}

// Print writes the plan, a line for each change that can be made; Conflicts tells
// the others.
func (p *Plan) Print(w io.Writer) error {
	if len(p.Changes) == 0 {
		_, err := fmt.Fprintln(w, "topics are as configured")
		return err
	}
	for _, change := range p.Changes {
		if change.Conflict != "" {
			continue
		}
		if _, err := fmt.Fprintln(w, change); err != nil {
			return err
		}
	}
	return nil
}

// Apply makes the changes. With a conflict it makes none. A topic that someone
// else created meanwhile is no error. What the brokers refuse is reported
// together after everything else was tried.
func (p *Plan) Apply(ctx context.Context) error {
	if err := p.Conflicts(); err != nil {
		return err
	}
	var failures []error
	for _, change := range p.Changes {
		if err := p.apply(ctx, change); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", change, err))
		}
	}
	return errors.Join(failures...)
}

func (p *Plan) apply(ctx context.Context, change Change) error {
	switch change.Setting {
	case "":
		setting := p.setting(change.Topic)
		configs := make(map[string]*string, len(setting.Configs))
		for key, value := range setting.Configs {
			configs[key] = kadm.StringPtr(value)
		}
		created, err := p.client.CreateTopic(ctx, setting.Partitions, setting.ReplicationFactor, configs, setting.Name)
		if err == nil {
			err = created.Err
		}
		if errors.Is(err, kerr.TopicAlreadyExists) {
			return nil
		}
		return err
	case "partitions":
		responses, err := p.client.UpdatePartitions(ctx, int(p.setting(change.Topic).Partitions), change.Topic)
		if err != nil {
			return err
		}
		return responses.Error()
	default:
		alter := kadm.AlterConfig{Op: kadm.SetConfig, Name: change.Setting, Value: kadm.StringPtr(change.Want)}
		responses, err := p.client.AlterTopicConfigs(ctx, []kadm.AlterConfig{alter}, change.Topic)
		if err != nil {
			return err
		}
		for _, response := range responses {
			if response.Err != nil {
				return fmt.Errorf("%w %s", response.Err, response.ErrMessage)
			}
		}
		return nil
	}
}

func (p *Plan) setting(topic string) *Settings {
	for i := range p.settings {
		if p.settings[i].Name == topic {
			return &p.settings[i]
		}
	}
	return nil
}
