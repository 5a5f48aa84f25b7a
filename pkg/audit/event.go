package audit

import (
	"math"
	"strconv"
)

// auditEvent is what the columns need of one audit event, its texts decoded.
type auditEvent struct {
	kind, apiVersion, level, auditID, stage string
	requestURI, verb, userAgent             string
	requestReceivedTimestamp                string
	stageTimestamp                          string
	timestamp                               string // v1beta1 and v1alpha1; shippers also use the name
	user, impersonated                      account
	sourceIPs                               []string
	object                                  objectReference
	responseMetadata                        string // compact JSON
	responseCode                            int64
	annotations                             pairs
	body                                    bodyOptions
	has                                     members
}

// members marks what of an event is there, to know one that has lost its ids.
type members uint8

const (
	hasUser members = 1 << iota
	hasObject
	hasResponse
	hasSourceIPs
)

type account struct {
	username, uid string
	groups        []string
	extra         pairs
}

type objectReference struct {
	resource, namespace, name, apiGroup, apiVersion, subresource string
}

func (e *auditEvent) reset() {
	e.user.reset()
	e.impersonated.reset()
	e.annotations.reset()
	*e = auditEvent{
		user:         e.user,
		impersonated: e.impersonated,
		sourceIPs:    e.sourceIPs[:0],
		annotations:  e.annotations,
	}
}

func (a *account) reset() {
	a.username, a.uid = "", ""
	a.groups = a.groups[:0]
	a.extra.reset()
}

// member takes the value at pos when key is one of an audit event's.
func (e *auditEvent) member(s *scanner, key string) bool {
	switch key {
	case "kind":
		e.kind = s.text()
	case "apiVersion":
		e.apiVersion = s.text()
	case "level":
		e.level = s.text()
	case "auditID":
		e.auditID = s.text()
	case "stage":
		e.stage = s.text()
	case "requestURI":
		e.requestURI = s.text()
	case "verb":
		e.verb = s.text()
	case "user":
		e.has = e.has.mark(hasUser, s)
		e.user.take(s)
	case "impersonatedUser":
		e.impersonated.take(s)
	case "sourceIPs":
		e.has = e.has.mark(hasSourceIPs, s)
		e.sourceIPs = s.texts(e.sourceIPs[:0])
	case "userAgent":
		e.userAgent = s.text()
	case "objectRef":
		e.has = e.has.mark(hasObject, s)
		e.object.take(s)
	case "responseStatus":
		e.has = e.has.mark(hasResponse, s)
		e.takeResponse(s)
	case "responseObject":
		s.skip()
	case "requestObject":
		e.body = takeBodyOptions(s)
	case "requestReceivedTimestamp":
		e.requestReceivedTimestamp = s.text()
	case "stageTimestamp":
		e.stageTimestamp = s.text()
	case "timestamp":
		e.timestamp = s.text()
	case "annotations":
		e.annotations.texts(s)
	default:
		return false
	}
	return true
}

// mark notes that a member has a value of its own type, not null or a foreign
// key's text.
func (m members) mark(member members, s *scanner) members {
	if c := s.peek(); c == '{' || c == '[' {
		return m | member
	}
	return m &^ member
}

// take reads a user. A text alone is taken as the name.
func (a *account) take(s *scanner) {
	a.reset()
	switch s.peek() {
	case '{':
	case '[':
		s.skip()
		return
	default:
		a.username = s.text()
		return
	}
	for more := s.enter('}'); more; more = s.next('}') {
		switch s.key() {
		case "username":
			a.username = s.text()
		case "uid":
			a.uid = s.text()
		case "groups":
			a.groups = s.texts(a.groups[:0])
		case "extra":
			a.takeExtra(s)
		default:
			s.skip()
		}
	}
}

func (a *account) takeExtra(s *scanner) {
	a.extra.reset()
	if s.peek() != '{' {
		s.skip()
		return
	}
	for more := s.enter('}'); more; more = s.next('}') {
		key := s.key()
		a.extra.set(key, s.list())
	}
}

// list takes an array of texts as one text with commas between them.
func (s *scanner) list() string {
	if s.peek() != '[' {
		return s.text()
	}
	// Two steps, as reading a text may itself append to the arena.
	s.items = s.texts(s.items[:0])
	return s.arena.list(s.items)
}

func (o *objectReference) take(s *scanner) {
	*o = objectReference{}
	if s.peek() != '{' {
		s.skip()
		return
	}
	for more := s.enter('}'); more; more = s.next('}') {
		switch s.key() {
		case "resource":
			o.resource = s.text()
		case "namespace":
			o.namespace = s.text()
		case "name":
			o.name = s.text()
		case "apiGroup":
			o.apiGroup = s.text()
		case "apiVersion":
			o.apiVersion = s.text()
		case "subresource":
			o.subresource = s.text()
		default:
			s.skip()
		}
	}
}

// parseCode reads a status code, also one written as text or as a float.
func parseCode(text string) int64 {
	if len(text) == 3 {
		if code, ok := digits(text); ok {
			return int64(code)
		}
	}
	if len(text) == 0 || len(text) > 32 {
		return 0
	}
	if code, err := strconv.ParseInt(text, 10, 64); err == nil {
		return code
	}
	if code, err := strconv.ParseFloat(text, 64); err == nil && code == math.Trunc(code) && math.Abs(code) < 1<<62 {
		return int64(code)
	}
	return 0
}

func (e *auditEvent) takeResponse(s *scanner) {
	e.responseMetadata, e.responseCode = "", 0
	switch s.peek() {
	case '{':
	case '"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		e.responseCode = parseCode(s.text())
		return
	default:
		s.skip()
		return
	}
	for more := s.enter('}'); more; more = s.next('}') {
		switch s.key() {
		case "metadata":
			e.responseMetadata = ""
			if s.peek() == 'n' {
				s.skip()
				continue
			}
			e.responseMetadata = s.compact()
		case "code":
			e.responseCode = parseCode(s.text())
		default:
			s.skip()
		}
	}
}

// bodyOptions is what a request's body says of a dry run, for the requests
// whose options are in their body. What it means hangs on the request.
type bodyOptions struct {
	present       bool // there is a body, an object
	dryRun        bool // as DeleteOptions have it
	deleteOptions bool // the same one level down, as an Eviction has it
}

func takeBodyOptions(s *scanner) (b bodyOptions) {
	if s.peek() != '{' {
		s.skip()
		return b
	}
	b.present = true
	for more := s.enter('}'); more; more = s.next('}') {
		switch s.key() {
		case "dryRun":
			b.dryRun = hasText(s)
		case "deleteOptions":
			b.deleteOptions = takeOptions(s)
		default:
			s.skip()
		}
	}
	return b
}

func takeOptions(s *scanner) (dryRun bool) {
	if s.peek() != '{' {
		s.skip()
		return false
	}
	for more := s.enter('}'); more; more = s.next('}') {
		if s.key() == "dryRun" {
			dryRun = hasText(s)
			continue
		}
		s.skip()
	}
	return dryRun
}

// hasText takes an array and says whether it holds a text that is not empty.
func hasText(s *scanner) (found bool) {
	if s.peek() != '[' {
		s.skip()
		return false
	}
	for more := s.enter(']'); more; more = s.next(']') {
		found = s.text() != "" || found
	}
	return found
}

var auditStages = [...]string{"ResponseComplete", "ResponseStarted", "RequestReceived", "Panic"}

// isAuditEvent knows an audit event by what it says of itself and by auditID or
// stage with verb or requestURI. An event without apiVersion that has lost its
// ids (samples, re-serialised logs) is known by its kind and verb: the core
// Event of the same kind has no verb.
func (e *auditEvent) isAuditEvent() bool {
	if e.kind == "AdmissionReview" || e.kind == "EventList" {
		return false
	}
	named := hasPrefix(e.apiVersion, "audit.k8s.io/")
	if e.auditID != "" && (e.verb != "" || e.requestURI != "") {
		return true
	}
	if (e.verb != "" || e.requestURI != "") && e.hasKnownStage() {
		return true
	}
	if e.kind != "Event" {
		return false
	}
	if named {
		return e.auditID != "" || e.stage != "" || e.verb != "" || e.requestURI != "" || e.has != 0
	}
	return e.apiVersion == "" && e.verb != "" && e.has != 0
}

func (e *auditEvent) hasKnownStage() bool {
	for _, stage := range auditStages {
		if e.stage == stage {
			return true
		}
	}
	return false
}

func hasPrefix(text, prefix string) bool {
	return len(text) >= len(prefix) && text[:len(prefix)] == prefix
}
