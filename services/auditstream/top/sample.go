package top

import (
	"cmp"
	"slices"
	"time"
)

// Sample is what was seen at one moment. Rates compare it with the sample
// before and are null in the first.
type Sample struct {
	At          time.Time   `json:"at"`
	Stages      []Stage     `json:"stages"`
	DeadLetters DeadLetters `json:"deadLetters"`
	// Problems are what could not be looked at, and why; the rest is there.
	Problems []string `json:"problems"`
}

// Stage is one consumer group of the pipeline.
type Stage struct {
	Name      string     `json:"name"` // fetcher, enricher, sink, or a further group's name without the prefix
	Group     string     `json:"group"`
	State     string     `json:"state"` // the group's, as the coordinator names it; "unknown" when it could not be asked
	Instances []Instance `json:"instances"`

	Lag Lag `json:"lag"`
	// Consumed and Produced are records per second: what the committed offsets and
	// the ends of the output moved by.
	Consumed *float64 `json:"consumedPerSecond"`
	Produced *float64 `json:"producedPerSecond"`

	// OldestIntent is what a sink has been inserting for the longest time.
	OldestIntent *Intent `json:"oldestIntent"`
	// Transactions is nil where the brokers don't tell of transactions.
	Transactions *Transactions `json:"transactions"`

	Partitions []Partition `json:"partitions"`
}

// Instance is a member of the group.
type Instance struct {
	ClientID   string             `json:"clientID"`
	Host       string             `json:"host"`
	Member     string             `json:"member"`
	Partitions map[string][]int32 `json:"partitions"` // by topic
}

// Count is how many partitions the instance has.
func (i *Instance) Count() int {
	count := 0
	for _, partitions := range i.Partitions {
		count += len(partitions)
	}
	return count
}

// Lag is how far behind a group or a partition is. Records are counted in
// offsets, so that markers of transactions count.
type Lag struct {
	Stable        int64 `json:"stableRecords"` // to the last stable offset: what could be read now
	HighWatermark int64 `json:"highWatermarkRecords"`
	// Seconds is the age of the oldest record that is not consumed: zero when there
	// is none, null when it could not be read.
	Seconds *float64 `json:"seconds"`
}

// Partition of a group's input.
type Partition struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Committed int64    `json:"committed"` // -1: none
	Instance  string   `json:"instance"`  // who has it: client id and host; empty: nobody
	Lag       Lag      `json:"lag"`
	Consumed  *float64 `json:"consumedPerSecond"`
	Intent    *Intent  `json:"intent"`
}

// Intent is a batch that a sink recorded before inserting it.
type Intent struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	From      int64     `json:"from"`
	To        int64     `json:"to"`
	Records   int       `json:"records"`
	Attempt   int       `json:"attempt"`
	Target    string    `json:"target"`
	Since     time.Time `json:"since"`
	Seconds   float64   `json:"seconds"`
}

// Transactions of a stage that are not ended.
type Transactions struct {
	Open   int          `json:"open"`
	Oldest *Transaction `json:"oldest"`
}

// Transaction is one that is not ended.
type Transaction struct {
	ID      string    `json:"id"`
	State   string    `json:"state"`
	Since   time.Time `json:"since"`
	Seconds float64   `json:"seconds"`
}

// DeadLetters were set aside within the window before the sample.
type DeadLetters struct {
	Window float64 `json:"windowSeconds"`
	Total  int64   `json:"total"`
	// Complete is false as long as the topic's tail has not been read up to its end.
	Complete bool              `json:"complete"`
	Last     *time.Time        `json:"last"`
	Reasons  []DeadLetterCount `json:"reasons"`
}

// DeadLetterCount is how many were set aside for one reason.
type DeadLetterCount struct {
	Stage  string `json:"stage"`
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
}

// sum fills in what of a stage follows from its partitions.
func (s *Stage) sum() {
	s.Lag = Lag{Seconds: new(float64)}
	var consumed float64
	known := len(s.Partitions) > 0
	for i := range s.Partitions {
		p := &s.Partitions[i]
		s.Lag.Stable += p.Lag.Stable
		s.Lag.HighWatermark += p.Lag.HighWatermark
		switch {
		case p.Lag.Seconds == nil:
			s.Lag.Seconds = nil
		case s.Lag.Seconds != nil:
			*s.Lag.Seconds = max(*s.Lag.Seconds, *p.Lag.Seconds)
		}
		if p.Consumed == nil {
			known = false
		} else {
			consumed += *p.Consumed
		}
		if p.Intent != nil && (s.OldestIntent == nil || p.Intent.Since.Before(s.OldestIntent.Since)) {
			s.OldestIntent = p.Intent
		}
	}
	if known {
		s.Consumed = &consumed
	}
	slices.SortFunc(s.Partitions, func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	slices.SortFunc(s.Instances, func(a, b Instance) int {
		return cmp.Or(cmp.Compare(a.ClientID, b.ClientID), cmp.Compare(a.Member, b.Member))
	})
}
