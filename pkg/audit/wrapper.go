package audit

import (
	"strings"

	"github.com/auditstream/auditstream/pkg/event"
)

// wrapper is what a shipper puts around an event, or beside its members.
type wrapper struct {
	date, stream, time string
	arrived            string // @timestamp and its like: when a shipper saw the line
	kubernetes         event.KubernetesMetadata
	labels             pairs
	dockerID           string // docker.container_id, when kubernetes has none
	cluster            string
	level              string // of ViaQ, which sets the event's own level to "default"
	piece              piece
	foreign            foreign

	messageType, logGroup string
	items, records        []byte // lists, as they stand in the line
	logEvents             []byte
	resourceLogs          []byte

	embedded   [embeddings]embedded
	configured []embedded // of the source's own keys, in their order
}

// piece is what the container runtime says of a line that it may have split.
type piece uint8

const (
	pieceUnknown piece = iota
	pieceNotLast
	pieceLast
)

// foreign marks records of other kinds, for the reason of a dead letter.
type foreign uint8

const (
	foreignLogEntry  foreign = 1 << iota // Google Cloud's
	foreignKeyValues                     // OTLP's kvlistValue
)

// embedded is a value that may be or hold an event: what a string says, or an
// object as it stands.
type embedded struct {
	text []byte
	kind byte // '"', '{', or 0 for none
}

// The keys that events are found under, in the order of trust: what a shipper
// has parsed before what it has not.
const (
	inLogProcessed = iota
	inLog
	inMessage
	inMsg
	inBody
	inProperties
	embeddings
)

var embeddedNames = [embeddings]string{"log_processed", "log", "message", "msg", "body", "properties"}

func (w *wrapper) reset(configured int) {
	w.labels.reset()
	*w = wrapper{labels: w.labels, configured: w.configured[:0]}
	for range configured {
		w.configured = append(w.configured, embedded{})
	}
}

// member takes the value at pos when key is one of a wrapper's.
func (w *wrapper) member(s *scanner, key string, configured []string) bool {
	switch key {
	case "date":
		w.date = s.text()
	case "stream":
		w.stream = s.text()
	case "time":
		w.time = s.text()
	case "@timestamp", "timeUnixNano":
		w.arrived = s.text()
	case "observedTimeUnixNano":
		if text := s.text(); w.arrived == "" || w.arrived == "0" {
			w.arrived = text
		}
	case "kubernetes":
		w.takeKubernetes(s)
	case "docker":
		takeText(s, "container_id", &w.dockerID)
	case "log":
		w.embedded[inLog].take(s)
	case "log_processed":
		w.embedded[inLogProcessed].take(s)
	case "message":
		w.embedded[inMessage].take(s)
	case "msg":
		w.embedded[inMsg].take(s)
	case "body":
		w.takeBody(s)
	case "properties":
		w.embedded[inProperties].take(s)
	case "items":
		w.items = takeList(s)
	case "records":
		w.records = takeList(s)
	case "logEvents":
		w.logEvents = takeList(s)
	case "resourceLogs":
		w.resourceLogs = takeList(s)
	case "messageType":
		w.messageType = s.text()
	case "logGroup":
		w.logGroup = s.text()
		if name, ok := between(w.logGroup, "/aws/eks/", "/cluster"); ok {
			w.cluster = name
		}
	case "resourceId":
		w.cluster = clusterOfResource(s.text(), w.cluster)
	case "openshift":
		takeText(s, "cluster_id", &w.cluster)
	case "k8s_audit_level", "openshift_audit_level":
		w.level = s.text()
	case "_p", "logtag":
		w.takePiece(s.text(), "P", "F")
	case "partial_message":
		w.takePiece(s.text(), "true", "false")
	case "protoPayload":
		w.foreign |= foreignLogEntry
		s.skip()
	case "logName":
		if name := s.text(); hasPrefix(name, "projects/") || strings.Contains(name, "cloudaudit.googleapis.com") {
			w.foreign |= foreignLogEntry
		}
	default:
		for i, name := range configured {
			if key == name {
				w.configured[i].take(s)
				return true
			}
		}
		if hasPrefix(key, "kubernetes.") {
			w.takeFlat(s, key[len("kubernetes."):])
			return true
		}
		return false
	}
	return true
}

func (e *embedded) take(s *scanner) {
	*e = embedded{}
	switch c := s.peek(); c {
	case '"':
		e.text, e.kind = s.unescaped(), c
	case '{':
		e.text, e.kind = s.raw(), c
	default:
		s.skip()
	}
}

func takeList(s *scanner) []byte {
	if c := s.peek(); c == '[' || c == 'n' {
		return s.raw()
	}
	s.skip()
	return nil
}

func (w *wrapper) takePiece(text, notLast, last string) {
	switch text {
	case notLast:
		w.piece = pieceNotLast
	case last:
		w.piece = pieceLast
	}
}

// takeBody reads OTLP's body: a string value, or what stands there plainly.
func (w *wrapper) takeBody(s *scanner) {
	into := &w.embedded[inBody]
	if s.peek() != '{' {
		into.take(s)
		return
	}
	*into = embedded{}
	start := s.pos
	var value embedded
	for more := s.enter('}'); more; more = s.next('}') {
		switch s.key() {
		case "stringValue":
			value.take(s)
		case "kvlistValue":
			w.foreign |= foreignKeyValues
			s.skip()
		default:
			s.skip()
		}
	}
	if s.fault != faultNone {
		return
	}
	if value.kind == 0 {
		value = embedded{text: s.data[start:s.pos], kind: '{'}
	}
	*into = value
}

func (w *wrapper) takeKubernetes(s *scanner) {
	w.kubernetes = event.KubernetesMetadata{}
	w.labels.reset()
	if s.peek() != '{' {
		s.skip()
		return
	}
	for more := s.enter('}'); more; more = s.next('}') {
		w.takeFlat(s, s.key())
	}
}

// takeFlat takes one member of `kubernetes`. Vector's and ViaQ's names stand
// for Fluent Bit's where these have no value.
func (w *wrapper) takeFlat(s *scanner, key string) {
	k := &w.kubernetes
	switch key {
	case "pod_name":
		k.PodName = s.text()
	case "namespace_name":
		k.NamespaceName = s.text()
	case "pod_namespace":
		orElse(&k.NamespaceName, s.text())
	case "pod_id":
		k.PodID = s.text()
	case "pod_uid":
		orElse(&k.PodID, s.text())
	case "host":
		k.Host = s.text()
	case "pod_node_name":
		orElse(&k.Host, s.text())
	case "container_name":
		k.ContainerName = s.text()
	case "docker_id":
		k.DockerID = s.text()
	case "container_id":
		orElse(&k.DockerID, withoutScheme(s.text()))
	case "container_hash":
		k.ContainerHash = s.text()
	case "container_image_id":
		orElse(&k.ContainerHash, s.text())
	case "container_image":
		k.ContainerImage = s.text()
	case "labels", "pod_labels":
		w.labels.texts(s)
	default:
		if hasPrefix(key, "labels.") {
			w.labels.set(key[len("labels."):], s.text())
			return
		}
		s.skip()
	}
}

// takeText takes what stands under a key of an object.
func takeText(s *scanner, key string, value *string) {
	if s.peek() != '{' {
		s.skip()
		return
	}
	for more := s.enter('}'); more; more = s.next('}') {
		if s.key() == key {
			*value = s.text()
			continue
		}
		s.skip()
	}
}

// size is what the wrapper gives to a row, in bytes.
func (w *wrapper) size() int {
	k := &w.kubernetes
	return w.labels.size + len(w.cluster) + len(w.stream) + len(w.dockerID) + len(w.level) +
		len(k.PodName) + len(k.NamespaceName) + len(k.PodID) + len(k.Host) + len(k.ContainerName) +
		len(k.DockerID) + len(k.ContainerHash) + len(k.ContainerImage)
}

func orElse(value *string, other string) {
	if *value == "" {
		*value = other
	}
}

// withoutScheme takes the runtime off a container id: containerd://f24c….
func withoutScheme(id string) string {
	if _, bare, found := strings.Cut(id, "://"); found {
		return bare
	}
	return id
}

// clusterOfResource takes the cluster's name from Azure's resource id, whose
// letters may all be capitals.
func clusterOfResource(id, otherwise string) string {
	const kind = "/managedclusters/"
	for i := 0; i+len(kind) < len(id); i++ {
		if id[i] == '/' && strings.EqualFold(id[i:i+len(kind)], kind) {
			name, _, _ := strings.Cut(id[i+len(kind):], "/")
			return name
		}
	}
	return otherwise
}

func between(text, prefix, suffix string) (inner string, ok bool) {
	if inner, ok = strings.CutPrefix(text, prefix); !ok {
		return "", false
	}
	return strings.CutSuffix(inner, suffix)
}
