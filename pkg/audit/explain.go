package audit

import (
	"strconv"
	"strings"

	"github.com/auditstream/auditstream/pkg/event"
)

// Origin says where a column's value came from: members of the line, the
// configuration, or what they were put together of. From is empty for a column
// that has its default.
type Origin struct{ Column, From string }

// Explain is Normalize that also says, for each row, where its 69 columns came
// from, in their order. It is for people who look at single lines.
func (n *Normalizer) Explain(source *Source, line Line, emit func(*event.Row, []Origin)) Result {
	return n.Normalize(source, line, func(row *event.Row) {
		emit(row, n.origins(row))
	})
}

// explanation collects the origins of one row.
type explanation struct {
	n       *Normalizer
	path    string // of the event's own members
	origins []Origin
}

// pathOf writes the way to a level: "log.", "logEvents[2].message.".
func (n *Normalizer) pathOf(level int) string {
	var path strings.Builder
	for _, step := range n.steps[:level+1] {
		if step.name == "" {
			continue
		}
		path.WriteString(step.name)
		if step.index >= 0 {
			path.WriteString("[" + strconv.Itoa(step.index) + "]")
		}
		path.WriteByte('.')
	}
	return path.String()
}

func (x *explanation) add(column, from string, there bool) {
	if !there {
		from = ""
	}
	x.origins = append(x.origins, Origin{column, from})
}

// own is for a column that is a member of the event.
func (x *explanation) own(column, member string, there bool) {
	x.add(column, x.path+member, there)
}

// wrapped is for a column of the wrapper: of the innermost level that has it.
func (x *explanation) wrapped(column, member string, has func(*wrapper) bool) {
	for level := x.n.at; level >= 0; level-- {
		if has(&x.n.levels[level].w) {
			x.add(column, x.n.pathOf(level)+member, true)
			return
		}
	}
	x.add(column, "", false)
}

func (n *Normalizer) origins(row *event.Row) []Origin {
	x := &explanation{n: n, path: n.pathOf(n.at)}
	const configured = "the source's configuration"
	x.add("workspaceID", configured, row.WorkspaceID != "")
	x.add("sourceID", configured, row.SourceID != "")
	x.add("sourceType", configured, row.SourceType != "")
	x.add("sourceTTL", configured, row.SourceTTL != 0)
	x.add("receivedAt", "the object's Last-Modified", true)
	x.add("id", "the object's id, the line's number, the event's place in the line", true)
	x.add("eventTime", x.timeOrigin(), true)
	target := "objectRef"
	if row.ObjectRefResource == "" {
		target = "requestURI"
	}
	x.add("eventName", x.path+"verb, "+x.path+target, row.EventName != "")
	x.own("eventID", "auditID", row.EventID != "")
	x.endpoint("src", x.path+"sourceIPs", &row.Src)
	x.endpoint("dst", "the address of the API server in "+configured, &row.Dst)
	x.add("actor", x.path+"user, "+x.path+"impersonatedUser", len(row.Actor) > 0)
	x.add("tags", configured+", "+x.path+"annotations, the wrapper", len(row.Tags) > 0)
	x.add("resources", x.path+target, len(row.Resources) > 0)
	x.add("serviceName", "always "+serviceName, true)
	x.add("readOnly", x.path+"verb, "+x.path+target+", "+x.path+"requestObject", true)
	x.add("rawLog", "the line, or of a list the event's own bytes", true)
	x.wrapped("date", "date", func(w *wrapper) bool { return w.date != "" })
	x.wrapped("stream", "stream", func(w *wrapper) bool { return w.stream != "" })
	x.wrapped("time", "time", func(w *wrapper) bool { return w.time != "" })
	x.eventMembers(row)
	x.kubernetes()
	return x.origins
}

func (x *explanation) timeOrigin() string {
	n := x.n
	e := &n.levels[n.at].e
	for _, clock := range [...]struct{ name, text string }{
		{"requestReceivedTimestamp", e.requestReceivedTimestamp}, {"stageTimestamp", e.stageTimestamp}, {"timestamp", e.timestamp},
	} {
		if _, ok := parseTime(clock.text); ok {
			return x.path + clock.name
		}
	}
	for _, clock := range [...]struct {
		name string
		of   func(*record) string
	}{
		{"time", func(r *record) string { return r.w.time }},
		{"date", func(r *record) string { return r.w.date }},
	} {
		for level := n.at; level >= 0; level-- {
			if _, ok := parseTime(clock.of(n.levels[level])); ok {
				return n.pathOf(level) + clock.name
			}
		}
	}
	for level := n.at; level >= 0; level-- {
		if _, ok := parseTime(n.levels[level].w.arrived); ok {
			return n.pathOf(level) + "@timestamp"
		}
		if _, ok := parseTime(n.levels[level].e.timestamp); ok {
			return n.pathOf(level) + "timestamp"
		}
	}
	return "receivedAt"
}

func (x *explanation) endpoint(side, address string, e *event.Endpoint) {
	databases := "GeoIP of " + side + "IP"
	x.add(side+"IP", address, e.IP != "")
	x.add(side+"ASCountryCode", databases, e.ASCountryCode != "")
	x.add(side+"ASNumber", databases, e.ASNumber != 0)
	x.add(side+"ASOrganization", databases, e.ASOrganization != "")
	x.add(side+"City", databases, e.City != "")
	x.add(side+"ConnectionType", databases, e.ConnectionType != "")
	x.add(side+"ISP", databases, e.ISP != "")
	x.add(side+"Latitude", databases, e.Latitude != 0)
	x.add(side+"Longitude", databases, e.Longitude != 0)
	x.add(side+"UserType", databases, e.UserType != "")
}

func (x *explanation) eventMembers(row *event.Row) {
	level := "level"
	if l := x.n.levels[x.n.at]; l.w.level != "" && row.Level == l.w.level {
		level = "k8s_audit_level"
	}
	x.own("kind", "kind", row.Kind != "")
	x.own("apiVersion", "apiVersion", row.APIVersion != "")
	x.own("level", level, row.Level != "")
	x.own("auditID", "auditID", row.AuditID != "")
	x.own("stage", "stage", row.Stage != "")
	x.own("requestURI", "requestURI", row.RequestURI != "")
	x.own("verb", "verb", row.Verb != "")
	x.own("user.username", "user.username", row.UserUsername != "")
	x.own("user.groups", "user.groups", len(row.UserGroups) > 0)
	x.own("sourceIPs", "sourceIPs", len(row.SourceIPs) > 0)
	x.own("userAgent", "userAgent", row.UserAgent != "")
	x.own("objectRef.resource", "objectRef.resource", row.ObjectRefResource != "")
	x.own("objectRef.namespace", "objectRef.namespace", row.ObjectRefNamespace != "")
	x.own("objectRef.name", "objectRef.name", row.ObjectRefName != "")
	x.own("objectRef.apiVersion", "objectRef.apiVersion", row.ObjectRefAPIVersion != "")
	x.own("responseStatus.metadata", "responseStatus.metadata", row.ResponseStatusMetadata != "")
	x.own("responseStatus.code", "responseStatus.code", row.ResponseStatusCode != 0)
	x.own("requestReceivedTimestamp", "requestReceivedTimestamp", row.RequestReceivedTimestamp != "")
	x.own("stageTimestamp", "stageTimestamp", row.StageTimestamp != "")
	x.own("annotations.authorization.k8s.io.decision", "annotations["+decisionKey+"]", row.AuthorizationDecision != "")
	x.own("annotations.authorization.k8s.io.reason", "annotations["+reasonKey+"]", row.AuthorizationReason != "")
}

// kubernetes names both spellings where shippers differ.
func (x *explanation) kubernetes() {
	const in = "kubernetes."
	label := func(key string) func(*wrapper) bool {
		return func(w *wrapper) bool { return w.labels.list.Get(key) != "" }
	}
	x.wrapped(in+"pod_name", in+"pod_name", func(w *wrapper) bool { return w.kubernetes.PodName != "" })
	x.wrapped(in+"namespace_name", in+"namespace_name or pod_namespace", func(w *wrapper) bool { return w.kubernetes.NamespaceName != "" })
	x.wrapped(in+"pod_id", in+"pod_id or pod_uid", func(w *wrapper) bool { return w.kubernetes.PodID != "" })
	x.wrapped(in+"labels.component", in+"labels.component", label("component"))
	x.wrapped(in+"labels.tier", in+"labels.tier", label("tier"))
	x.wrapped(in+"host", in+"host or pod_node_name", func(w *wrapper) bool { return w.kubernetes.Host != "" })
	x.wrapped(in+"container_name", in+"container_name", func(w *wrapper) bool { return w.kubernetes.ContainerName != "" })
	x.wrapped(in+"docker_id", in+"docker_id or container_id", func(w *wrapper) bool { return w.kubernetes.DockerID != "" || w.dockerID != "" })
	x.wrapped(in+"container_hash", in+"container_hash or container_image_id", func(w *wrapper) bool { return w.kubernetes.ContainerHash != "" })
	x.wrapped(in+"container_image", in+"container_image", func(w *wrapper) bool { return w.kubernetes.ContainerImage != "" })
}
