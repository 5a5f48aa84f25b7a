package trace

import "time"

// Report answers one question.
type Report struct {
	Asked  string  `json:"asked"`
	Traces []Trace `json:"traces"` // one for each event that was meant
	// Notes are what limits the answer: what could not be asked, how far it was looked.
	Notes []string `json:"notes"`
}

// Found tells whether anything that was meant was found at any hop of the pipeline.
func (r *Report) Found() bool {
	for i := range r.Traces {
		if r.Traces[i].Outcome != OutcomeNotFound {
			return true
		}
	}
	return false
}

// Outcome is where a line or an object is, in a word.
type Outcome string

// The outcomes.
const (
	OutcomeRow        Outcome = "row"         // in the table
	OutcomeDeadLetter Outcome = "dead letter" // set aside
	OutcomeSkipped    Outcome = "skipped"     // rightly nothing
	OutcomeUnderWay   Outcome = "under way"   // a stage has not come to it yet
	OutcomeComplete   Outcome = "complete"    // of an object: every line was fetched
	OutcomeExpired    Outcome = "expired"     // it was there, as far as can be told, and is no longer
	OutcomeMissing    Outcome = "missing"     // it is at a hop and should be at the next, and isn't
	OutcomeUnknown    Outcome = "unknown"     // what would tell could not be asked
	OutcomeNotFound   Outcome = "not found"
)

// Trace is one line's, or one object's, way.
type Trace struct {
	ID      string  `json:"id"` // of the row, or of the object
	Object  Object  `json:"object"`
	Line    int64   `json:"line,omitempty"` // 0: the whole object
	Hops    []Hop   `json:"hops"`
	Outcome Outcome `json:"outcome"`

	beyond bool // the object has no such line
}

// Object is what is known of the S3 object.
type Object struct {
	ID       string `json:"id"`
	Source   string `json:"source,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Bucket   string `json:"bucket,omitempty"`
	Key      string `json:"key,omitempty"`
	ETag     string `json:"etag,omitempty"`
	Version  string `json:"version,omitempty"`
}

// URI names the object as people do; nothing when bucket and key are unknown.
func (o *Object) URI() string {
	if o.Key == "" {
		return ""
	}
	return "s3://" + o.Bucket + "/" + o.Key
}

// State says how it is at a hop.
type State string

// The states.
const (
	Found   State = "found"
	Expired State = "expired" // no longer there
	Waiting State = "waiting" // not there yet
	Absent  State = "absent"  // not there
	Unknown State = "unknown" // could not be asked
)

// The hops' names.
const (
	hopStored     = "stored"
	hopAnnounced  = "announced"
	hopSplit      = "split"
	hopRaw        = "raw"
	hopNormalized = "normalized"
	hopDeadLetter = "dead letter"
	hopSkipped    = "skipped"
	hopRow        = "row"
)

// Hop is one place that it passes.
type Hop struct {
	Name  string `json:"hop"`
	State State  `json:"state"`

	Topic     string `json:"topic,omitempty"`
	Partition *int32 `json:"partition,omitempty"`
	Offset    *int64 `json:"offset,omitempty"`

	// At is the record's timestamp, for the object when S3 received it. Delay is
	// since the hop before that has a time.
	At    *time.Time `json:"at,omitempty"`
	Delay *float64   `json:"delaySeconds,omitempty"`

	Cause      string     `json:"cause,omitempty"` // of an announcement
	Generation *int       `json:"generation,omitempty"`
	Stage      string     `json:"stage,omitempty"` // that set it aside or skipped it
	Reason     string     `json:"reason,omitempty"`
	Error      string     `json:"error,omitempty"`
	Lines      *int64     `json:"lines,omitempty"` // that an object has
	Rows       *uint64    `json:"rows,omitempty"`  // physical ones, before they collapse
	IDs        *uint64    `json:"ids,omitempty"`   // different ones among them
	Lag        *int64     `json:"lag,omitempty"`   // of the group in the partition, while it waits
	EventTime  *time.Time `json:"eventTime,omitempty"`
	ReceivedAt *time.Time `json:"receivedAt,omitempty"`

	Text string `json:"text"` // all that for people
}

func (t *Trace) found() bool {
	for i := range t.Hops {
		if t.Hops[i].State == Found && t.Hops[i].Name != hopStored {
			return true
		}
	}
	return false
}

// hop is the one of that name, nil without one.
func (t *Trace) hop(name string) *Hop {
	for i := range t.Hops {
		if t.Hops[i].Name == name {
			return &t.Hops[i]
		}
	}
	return nil
}

func (t *Trace) is(name string, state State) bool {
	hop := t.hop(name)
	return hop != nil && hop.State == state
}

// conclude sets what follows from all hops: delays and the outcome.
func (t *Trace) conclude() {
	var before *time.Time
	for i := range t.Hops {
		hop := &t.Hops[i]
		if hop.At == nil {
			continue
		}
		if before != nil {
			delay := hop.At.Sub(*before).Seconds()
			hop.Delay = &delay
		}
		before = hop.At
	}
	has := func(state State) bool {
		for i := range t.Hops {
			if t.Hops[i].State == state {
				return true
			}
		}
		return false
	}
	switch {
	case t.Line > 0 && t.is(hopRow, Found):
		t.Outcome = OutcomeRow
	case t.is(hopDeadLetter, Found) && (t.Line > 0 || !t.is(hopSplit, Found)):
		t.Outcome = OutcomeDeadLetter
	case t.is(hopSkipped, Found):
		t.Outcome = OutcomeSkipped
	case has(Waiting):
		t.Outcome = OutcomeUnderWay
	case t.Line == 0 && t.is(hopSplit, Found):
		t.Outcome = OutcomeComplete
	case t.beyond || !t.found() && !has(Expired):
		t.Outcome = OutcomeNotFound
	case has(Expired):
		t.Outcome = OutcomeExpired
	case has(Unknown):
		t.Outcome = OutcomeUnknown
	default:
		t.Outcome = OutcomeMissing
	}
}
