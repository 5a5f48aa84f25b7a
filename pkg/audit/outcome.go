package audit

// Reason says why a line, or one item of a line, is a dead letter. The set is
// closed: it is a metric label and a header.
type Reason string

const (
	// NotJSON is a line, or an event inside one, that is not valid JSON.
	NotJSON Reason = "not-json"
	// NotAuditEvent is something whole that is no audit event: a container's
	// log, a core/v1 Event, an AdmissionReview, text.
	NotAuditEvent Reason = "not-audit-event"
	// PartialLine is a piece of a line that the container runtime split.
	PartialLine Reason = "partial-line"
	// UnsupportedFormat is an audit record in a format that is not read: GKE's
	// LogEntry, the text format before Kubernetes 1.8, OTLP's kvlistValue.
	UnsupportedFormat Reason = "unsupported-format"
)

// Reasons are all reasons, in the order of the documentation.
func Reasons() []Reason {
	return []Reason{NotJSON, NotAuditEvent, PartialLine, UnsupportedFormat}
}

// Skip says why a line, or a part of one, gives neither row nor dead letter.
type Skip string

const (
	// SkipBlank is a line of white space or of nothing.
	SkipBlank Skip = "blank"
	// SkipControlMessage is CloudWatch's test of a subscription.
	SkipControlMessage Skip = "control-message"
	// SkipEmptyList is a list (EventList, logEvents, records, array) of nothing.
	SkipEmptyList Skip = "empty-list"
)

// Skips are all reasons for a skip.
func Skips() []Skip { return []Skip{SkipBlank, SkipControlMessage, SkipEmptyList} }

// Rejection is one dead letter.
type Rejection struct {
	Reason Reason
	Detail string // for people: what was wrong, and where
	Part   []byte // the line, or the item of it, that is rejected
	Event  int    // the item's place in the line, from 0, as in a row's id
}

// Skipped counts what was left out for one reason.
type Skipped struct {
	Reason Skip
	Count  int
}

// Result is what became of a line. At least one of the three is not empty.
// The slices, and what they point to, are valid until the next Normalize.
type Result struct {
	Rows       int
	Rejections []Rejection
	Skips      []Skipped
}
