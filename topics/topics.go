package topics

import (
	"strconv"
	"time"
)

// The topics' names before the configured prefix.
const (
	Objects    = "objects"
	Raw        = "raw"
	Normalized = "normalized"
	DeadLetter = "deadletter"
	Ledger     = "ledger"
)

// Names are the topics' full names.
type Names struct {
	Objects, Raw, Normalized, DeadLetter, Ledger string
}

// NewNames puts prefix (which may be empty) before each topic's name.
func NewNames(prefix string) Names {
	return Names{
		Objects:    prefix + Objects,
		Raw:        prefix + Raw,
		Normalized: prefix + Normalized,
		DeadLetter: prefix + DeadLetter,
		Ledger:     prefix + Ledger,
	}
}

// RecordOverhead is what a record may be larger than the line it carries:
// headers, the other 68 columns, and Kafka's batch framing. A topic's
// max.message.bytes is the line limit plus this, so that a line that is
// accepted can always be carried. A normalized record holds the raw line and
// copies of parts of it, so that the limit counts it twice.
const RecordOverhead = 1 << 20

// MaxMessageBytes is the max.message.bytes of the topics raw and deadletter
// for lines of up to lineLimit bytes.
func MaxMessageBytes(lineLimit int64) int64 { return lineLimit + RecordOverhead }

// MaxNormalizedBytes is the max.message.bytes of the topic normalized for lines
// of up to lineLimit bytes. Text columns together never hold more than the
// line itself; invalid UTF-8 grows to three bytes for one, which a line that
// is all invalid bytes can't be, since it must be JSON around them.
func MaxNormalizedBytes(lineLimit int64) int64 { return 4*lineLimit + RecordOverhead }

// Settings are how one topic is made.
type Settings struct {
	Name       string
	Partitions int32
	// PartitionsFixed refuses another partition count for a topic that is there:
	// records are found by the hash of their key.
	PartitionsFixed   bool
	ReplicationFactor int16 // -1 is the broker's default
	Configs           map[string]string
}

// Retention, size limit and durability, as given by the configuration.
type SettingsOptions struct {
	Partitions        int32
	PartitionsFixed   bool
	ReplicationFactor int16
	MinInSyncReplicas int // 0 leaves the broker's default
	Retention         time.Duration
	MaxMessageBytes   int64
}

// NewSettings turns options into Kafka's topic configuration
// (https://kafka.apache.org/documentation/#topicconfigs).
func NewSettings(name string, o SettingsOptions) Settings {
	configs := map[string]string{
		"cleanup.policy":    "delete",
		"retention.ms":      strconv.FormatInt(o.Retention.Milliseconds(), 10),
		"retention.bytes":   "-1",
		"max.message.bytes": strconv.FormatInt(o.MaxMessageBytes, 10),
		// Retention counts from the time of producing.
		"message.timestamp.type": "CreateTime",
		"compression.type":       "producer",
		// An election among replicas that miss acknowledged records loses them.
		"unclean.leader.election.enable": "false",
	}
	if o.MinInSyncReplicas > 0 {
		configs["min.insync.replicas"] = strconv.Itoa(o.MinInSyncReplicas)
	}
	return Settings{
		Name:              name,
		Partitions:        o.Partitions,
		PartitionsFixed:   o.PartitionsFixed,
		ReplicationFactor: o.ReplicationFactor,
		Configs:           configs,
	}
}
