package generate

import (
	"strconv"
	"time"
)

// Levels and stages as audit.k8s.io/v1 names them.
const (
	levelMetadata        = "Metadata"
	levelRequest         = "Request"
	levelRequestResponse = "RequestResponse"

	stageRequestReceived  = "RequestReceived"
	stageResponseStarted  = "ResponseStarted"
	stageResponseComplete = "ResponseComplete"
	stagePanic            = "Panic"
)

// request is one request to the API server, whole: each stage's event is
// rendered from it when its time comes.
type request struct {
	received, latency int64 // µs
	auditID           [16]byte
	version           uint64 // resourceVersion it saw or made
	mix               uint64 // what bodies derive their details from

	level       string
	verb        string
	who         *identity
	as          []byte // impersonated user, rendered
	addresses   string // rendered; empty: one of who's
	agent       string
	object      objectRef
	path        string // of a non-resource request
	query       string
	code        int
	failure     failure
	decision    string // "": allow
	reason      string // "": of the role that allows it
	podSecurity string // enforce-policy annotation
	violations  string // audit-violations annotation
	truncated   bool

	body     func(dst []byte, q *request, response bool) []byte
	workload *workload

	logReceived, logStarted, panics bool
}

// objectRef is what the request is about; resource "" is a non-resource request.
type objectRef struct {
	group, version, resource, subresource, namespace, name string
}

// failure is the responseStatus of a request that failed.
type failure struct{ reason, message string }

// mix2 is 0 … n-1, the same for the same request.
func (q *request) mix2(n int) int64 { return int64(q.mix>>33) % int64(n) } //nolint:gosec // 31 bits

func (g *Generator) appendEvent(dst []byte, q *request, stage string, at int64) []byte {
	dst = append(dst, `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"`...)
	dst = append(dst, q.level...)
	dst = append(dst, `","auditID":"`...)
	dst = appendUUID(dst, q.auditID)
	dst = append(dst, `","stage":"`...)
	dst = append(dst, stage...)
	dst = append(dst, `","requestURI":`...)
	g.scratch = q.appendURI(g.scratch[:0])
	dst = appendBytes(dst, g.scratch)
	dst = append(dst, `,"verb":"`...)
	dst = append(dst, q.verb...)
	dst = append(dst, `","user":`...)
	dst = append(dst, q.who.user...)
	if q.as != nil {
		dst = append(dst, `,"impersonatedUser":`...)
		dst = append(dst, q.as...)
	}
	dst = append(dst, `,"sourceIPs":`...)
	dst = append(dst, q.addresses...)
	dst = appendField(append(dst, ','), "userAgent", q.agent)
	if q.object.resource != "" {
		dst = append(dst, `,"objectRef":`...)
		dst = q.appendObjectRef(dst)
	}
	answered := stage != stageRequestReceived
	if answered {
		dst = append(dst, `,"responseStatus":`...)
		dst = q.appendStatus(dst)
	}
	if q.body != nil && !q.truncated {
		if q.level != levelMetadata {
			dst = append(dst, `,"requestObject":`...)
			dst = q.body(dst, q, false)
		}
		if q.level == levelRequestResponse && answered && q.code < 300 {
			dst = append(dst, `,"responseObject":`...)
			dst = q.body(dst, q, true)
		}
	}
	dst = append(dst, `,"requestReceivedTimestamp":"`...)
	dst = appendMicros(dst, q.received)
	dst = append(dst, `","stageTimestamp":"`...)
	dst = appendMicros(dst, at)
	dst = append(dst, '"')
	if answered && q.code != 401 {
		dst = append(dst, `,"annotations":{`...)
		dst = q.appendAnnotations(dst)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

func (q *request) appendURI(dst []byte) []byte {
	if q.object.resource == "" {
		dst = append(dst, q.path...)
	} else {
		if q.object.group == "" {
			dst = append(dst, "/api/"...)
		} else {
			dst = append(append(append(dst, "/apis/"...), q.object.group...), '/')
		}
		dst = append(dst, q.object.version...)
		if q.object.namespace != "" && q.object.resource != "namespaces" {
			dst = append(append(dst, "/namespaces/"...), q.object.namespace...)
		}
		dst = append(append(dst, '/'), q.object.resource...)
		// A create's URI ends before the name, except of a subresource.
		if q.object.name != "" && (q.verb != "create" || q.object.subresource != "") && q.verb != "list" {
			dst = append(append(dst, '/'), q.object.name...)
		}
		if q.object.subresource != "" {
			dst = append(append(dst, '/'), q.object.subresource...)
		}
	}
	if q.query != "" {
		dst = append(append(dst, '?'), q.query...)
	}
	return dst
}

func (q *request) appendObjectRef(dst []byte) []byte {
	dst = appendField(append(dst, '{'), "resource", q.object.resource)
	optional := func(key, value string) {
		if value != "" {
			dst = appendField(append(dst, ','), key, value)
		}
	}
	optional("namespace", q.object.namespace)
	optional("name", q.object.name)
	optional("apiGroup", q.object.group)
	optional("apiVersion", q.object.version)
	if q.verb == "update" {
		dst = append(dst, `,"resourceVersion":"`...)
		dst = append(strconv.AppendUint(dst, q.version-uint64(1+q.mix2(900)), 10), '"')
	}
	optional("subresource", q.object.subresource)
	return append(dst, '}')
}

func (q *request) appendStatus(dst []byte) []byte {
	dst = append(dst, `{"metadata":{}`...)
	if q.failure.reason != "" {
		dst = appendField(append(dst, `,"status":"Failure",`...), "message", q.failure.message)
		dst = appendField(append(dst, ','), "reason", q.failure.reason)
		if q.object.resource != "" && q.code != 401 {
			dst = append(dst, `,"details":{`...)
			if q.object.name != "" {
				dst = append(appendField(dst, "name", q.object.name), ',')
			}
			if q.object.group != "" {
				dst = append(appendField(dst, "group", q.object.group), ',')
			}
			dst = append(appendField(dst, "kind", q.object.resource), '}')
		}
	}
	dst = append(dst, `,"code":`...)
	return append(strconv.AppendInt(dst, int64(q.code), 10), '}')
}

func (q *request) appendAnnotations(dst []byte) []byte {
	if q.truncated {
		dst = append(dst, `"audit.k8s.io/truncated":"true",`...)
	}
	decision := q.decision
	if decision == "" {
		decision = "allow"
	}
	dst = appendField(dst, "authorization.k8s.io/decision", decision)
	dst = append(dst, `,"authorization.k8s.io/reason":"`...)
	switch {
	case q.reason != "":
		dst = appendEscaped(dst, q.reason)
	case decision == "allow" && q.who.role != "":
		dst = appendEscaped(dst, `RBAC: allowed by ClusterRoleBinding "`)
		dst = appendEscaped(dst, q.who.role)
		dst = appendEscaped(dst, `" of ClusterRole "`)
		dst = appendEscaped(dst, q.who.role)
		dst = appendEscaped(dst, `" to `)
		dst = appendEscaped(dst, q.who.subject)
	}
	dst = append(dst, '"')
	if q.podSecurity != "" {
		dst = appendField(append(dst, ','), "pod-security.kubernetes.io/enforce-policy", q.podSecurity)
	}
	if q.violations != "" {
		dst = appendField(append(dst, ','), "pod-security.kubernetes.io/audit-violations", q.violations)
	}
	return dst
}

// appendMicros appends a MicroTime: RFC 3339 with six decimals.
func appendMicros(dst []byte, micros int64) []byte {
	return time.UnixMicro(micros).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000Z")
}

func appendField(dst []byte, key, value string) []byte {
	dst = append(append(append(dst, '"'), key...), `":`...)
	return appendString(dst, value)
}

func appendString(dst []byte, text string) []byte {
	return append(appendEscaped(append(dst, '"'), text), '"')
}

func appendBytes(dst, text []byte) []byte {
	return append(appendEscaped(append(dst, '"'), text), '"')
}

// appendEscaped escapes as the API server's encoder does: quotes, backslashes,
// control characters, and &, < and > as \u00xx.
func appendEscaped[T string | []byte](dst []byte, text T) []byte {
	from := 0
	for i := 0; i < len(text); i++ {
		b := text[i]
		if b >= ' ' && b != '"' && b != '\\' && b != '&' && b != '<' && b != '>' {
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		switch b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\n':
			dst = append(dst, `\n`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
		}
	}
	return append(dst, text[from:]...)
}
