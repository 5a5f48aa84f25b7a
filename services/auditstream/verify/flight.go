package verify

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/topics"
)

// Topics is Flight by way of the groups' offsets: what is under way is in one of
// the topics, at or after the offset that the group which reads it has committed.
//
// The offsets are read before the tables, and the topics' ends after. A line
// moves from one topic to the next in a transaction, and into the table before
// its offset is committed; so whatever was missing when the tables were read is
// between the two.
type Topics struct {
	client    *kgo.Client
	options   []kgo.Opt
	groups    []groupOf
	ledger    string
	committed map[string]map[int32]int64
}

type groupOf struct{ group, topic string }

// OpenTopics makes a client; Close ends it.
func OpenTopics(cfg config.Config, log *slog.Logger) (*Topics, error) {
	options, err := kafka.Options(cfg.Kafka, log, nil)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("Kafka client: %w", err)
	}
	names := cfg.Topics.Names()
	return &Topics{client: client, options: options, ledger: names.Ledger, groups: []groupOf{
		{cfg.Kafka.Group + "-fetcher", names.Objects}, {cfg.Kafka.Group + "-enricher", names.Raw},
		{cfg.Kafka.Group + "-sink", names.Normalized}, {cfg.Kafka.Group + "-ledger", names.Ledger},
	}}, nil
}

// Close ends the client.
func (t *Topics) Close() { t.client.Close() }

// Begin implements Flight.
func (t *Topics) Begin(ctx context.Context) ([]Lag, error) {
	t.committed = make(map[string]map[int32]int64)
	lags := []Lag{}
	for _, one := range t.groups {
		partitions, err := kafka.ReadLag(ctx, t.client, one.group, one.topic)
		if err != nil {
			return nil, err
		}
		lag := Lag{Group: one.group, Topic: one.topic}
		t.committed[one.topic] = make(map[int32]int64)
		for _, partition := range partitions {
			t.committed[one.topic][partition.Partition] = partition.Committed
			lag.Records += partition.Stable
		}
		lags = append(lags, lag)
	}
	return lags, nil
}

// UnderWay implements Flight.
func (t *Topics) UnderWay(ctx context.Context, objects map[string]bool) (map[string]bool, []topics.LedgerEntry, error) {
	ranges := make(kafka.Ranges)
	admin := kadm.NewClient(t.client)
	for _, one := range t.groups {
		bounds, err := kafka.Bounds(ctx, admin, one.topic, time.Time{}, time.Time{})
		if err != nil {
			return nil, nil, err
		}
		for partition, part := range bounds[one.topic] {
			if committed, found := t.committed[one.topic][partition]; found {
				part.From = max(part.From, committed)
			}
			ranges.Set(one.topic, partition, part)
		}
	}
	under := make(map[string]bool)
	var replays []topics.LedgerEntry
	err := kafka.Scan(ctx, t.options, ranges, func(record *kgo.Record) error {
		if record.Topic == t.ledger {
			// What is no entry is for the sink to set aside.
			if entry, err := topics.DecodeLedgerEntry(record.Value); err == nil && entry.Kind == topics.LedgerReplay {
				replays = append(replays, entry)
				return nil
			}
		}
		if object := t.object(record); objects[object] {
			under[object] = true
			if len(under) == len(objects) {
				return kafka.ErrStopScan
			}
		}
		return nil
	})
	return under, replays, err
}

// object is the id of the object that a record is about; "" of none.
func (t *Topics) object(record *kgo.Record) string {
	for _, header := range record.Headers {
		if header.Key == topics.HeaderObject {
			return string(header.Value)
		}
	}
	// The key of objects and of the ledger is the object id, that of normalized
	// begins with it.
	if len(record.Key) < identity.ObjectIDLength {
		return ""
	}
	return string(record.Key[:identity.ObjectIDLength])
}
