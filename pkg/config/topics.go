package config

import "github.com/auditstream/auditstream/topics"

// Names are the topics' names.
func (t Topics) Names() topics.Names { return topics.NewNames(t.Prefix) }

// Settings are how the topics are made. The line limit and each topic's
// max.message.bytes are set together, so that a line that is accepted can
// always be carried.
func (t Topics) Settings() []topics.Settings {
	names := t.Names()
	settings := func(name string, topic Topic, fixed bool, maxMessageBytes int64) topics.Settings {
		return topics.NewSettings(name, topics.SettingsOptions{
			Partitions:        topic.Partitions,
			PartitionsFixed:   fixed,
			ReplicationFactor: t.ReplicationFactor,
			MinInSyncReplicas: t.MinInSyncReplicas,
			Retention:         topic.Retention,
			MaxMessageBytes:   maxMessageBytes,
		})
	}
	limit := int64(t.LineLimit)
	return []topics.Settings{
		settings(names.Objects, t.Objects, true, topics.RecordOverhead),
		settings(names.Raw, t.Raw, false, topics.MaxMessageBytes(limit)),
		settings(names.Normalized, t.Normalized, false, topics.MaxNormalizedBytes(limit)),
		settings(names.DeadLetter, t.DeadLetter, false, topics.MaxMessageBytes(limit)),
		settings(names.Ledger, t.Ledger, false, topics.RecordOverhead),
	}
}
