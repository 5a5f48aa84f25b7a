package audit

import (
	"bytes"
	"fmt"
)

// verdict says why something is a dead letter.
type verdict struct {
	reason Reason
	detail string
}

const unknownRecord = "neither auditID nor stage with verb or requestURI"

// severity orders reasons by how much they say: of a record in which several
// places were tried, the most telling counts.
func (r Reason) severity() int {
	switch r {
	case PartialLine:
		return 3
	case UnsupportedFormat:
		return 2
	case NotJSON:
		return 1
	}
	return 0
}

func (v verdict) orWorse(other verdict) verdict {
	if other.reason.severity() > v.reason.severity() || v.detail == unknownRecord {
		return other
	}
	return v
}

// verdict says why a record by itself is no event.
func (r *record) verdict() verdict {
	switch {
	case r.w.foreign&foreignLogEntry != 0:
		return verdict{UnsupportedFormat, "Google Cloud LogEntry"}
	case r.w.foreign&foreignKeyValues != 0:
		return verdict{UnsupportedFormat, "OTLP body of key-value pairs"}
	case r.w.piece == pieceNotLast:
		return verdict{PartialLine, "the container runtime split the line"}
	case r.e.kind != "" || r.e.apiVersion != "":
		return verdict{NotAuditEvent, fmt.Sprintf("kind %.64q of apiVersion %.64q", r.e.kind, r.e.apiVersion)}
	}
	return verdict{NotAuditEvent, unknownRecord}
}

// splitAt is where Docker and containerd split the lines of a container's log.
const splitAt = 16 << 10

// maxHeuristic bounds how much of a text is looked at for its reason.
const maxHeuristic = 64 << 10

// textVerdict says why a text that should hold an event does not parse; s is
// the scanner that failed on it.
func textVerdict(text []byte, piece piece, s *scanner) verdict {
	trimmed := bytes.TrimSpace(text)
	object := len(trimmed) > 0 && trimmed[0] == '{'
	switch {
	case piece == pieceNotLast:
		return verdict{PartialLine, "the container runtime split the line"}
	case bytes.Contains(trimmed[:min(len(trimmed), maxHeuristic)], []byte("AUDIT: id=")):
		return verdict{UnsupportedFormat, "text format of before Kubernetes 1.8"}
	case object && s.fault == faultEnd && len(text)%splitAt == 0:
		return verdict{PartialLine, "ends at 16 KiB inside a value"}
	case !object && isTail(trimmed):
		return verdict{PartialLine, "the end of an object that began in another line"}
	}
	return verdict{NotJSON, fmt.Sprintf("%s at byte %d", s.fault, s.faultAt)}
}

func (f fault) String() string {
	switch f {
	case faultEnd:
		return "the text ends inside a value"
	case faultDepth:
		return "arrays and objects nest too deep"
	}
	return "no JSON"
}

// messageVerdict is textVerdict for the text of a message that is itself well
// wrapped: one that does not even begin like an event is another log's.
func messageVerdict(text []byte, piece piece, s *scanner) verdict {
	why := textVerdict(text, piece, s)
	if trimmed := bytes.TrimSpace(text); why.reason == NotJSON && trimmed[0] != '{' && trimmed[0] != '"' {
		return verdict{NotAuditEvent, "a text that is not JSON"}
	}
	return why
}

// isTail says whether a text looks like the end of a JSON object: it closes
// more than it opens.
func isTail(text []byte) bool {
	if len(text) == 0 || text[len(text)-1] != '}' {
		return false
	}
	text = text[max(0, len(text)-maxHeuristic):]
	return bytes.Count(text, []byte("}")) > bytes.Count(text, []byte("{"))
}
