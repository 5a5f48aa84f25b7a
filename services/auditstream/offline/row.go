package offline

import (
	"bufio"
	"io"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/auditstream/auditstream/pkg/event"
)

// rowWriter writes rows as JSON lines: the table's columns as keys, in their
// order, times as RFC 3339 in UTC. A text that is not valid UTF-8 has its
// invalid bytes replaced; JSON has no way to carry them.
type rowWriter struct {
	buffered *bufio.Writer
	encoder  *jsontext.Encoder
	err      error // the first; nothing is written after it
}

func newRowWriter(w io.Writer) *rowWriter {
	buffered := bufio.NewWriterSize(w, 256<<10)
	return &rowWriter{
		buffered: buffered,
		encoder:  jsontext.NewEncoder(buffered, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)),
	}
}

func (w *rowWriter) flush() error {
	if w.err != nil {
		return w.err
	}
	return w.buffered.Flush()
}

func (w *rowWriter) write(row *event.Row) {
	w.token(jsontext.BeginObject)
	w.text("workspaceID", row.WorkspaceID)
	w.text("sourceID", row.SourceID)
	w.text("sourceType", row.SourceType)
	w.unsigned("sourceTTL", row.SourceTTL)
	w.time("receivedAt", row.ReceivedAt)
	w.text("id", row.ID)
	w.time("eventTime", row.EventTime)
	w.text("eventName", row.EventName)
	w.text("eventID", row.EventID)
	w.endpoint("src", &row.Src)
	w.endpoint("dst", &row.Dst)
	w.pairs("actor", row.Actor)
	w.pairs("tags", row.Tags)
	w.texts("resources", row.Resources)
	w.text("serviceName", row.ServiceName)
	w.token(jsontext.String("readOnly"))
	w.token(jsontext.Bool(row.ReadOnly))
	w.text("rawLog", string(row.RawLog))
	w.time("date", row.Date)
	w.text("stream", row.Stream)
	w.time("time", row.Time)
	w.text("kind", row.Kind)
	w.text("apiVersion", row.APIVersion)
	w.text("level", row.Level)
	w.text("auditID", row.AuditID)
	w.text("stage", row.Stage)
	w.text("requestURI", row.RequestURI)
	w.text("verb", row.Verb)
	w.text("user.username", row.UserUsername)
	w.texts("user.groups", row.UserGroups)
	w.texts("sourceIPs", row.SourceIPs)
	w.text("userAgent", row.UserAgent)
	w.text("objectRef.resource", row.ObjectRefResource)
	w.text("objectRef.namespace", row.ObjectRefNamespace)
	w.text("objectRef.name", row.ObjectRefName)
	w.text("objectRef.apiVersion", row.ObjectRefAPIVersion)
	w.text("responseStatus.metadata", row.ResponseStatusMetadata)
	w.token(jsontext.String("responseStatus.code"))
	w.token(jsontext.Int(row.ResponseStatusCode))
	w.text("requestReceivedTimestamp", row.RequestReceivedTimestamp)
	w.text("stageTimestamp", row.StageTimestamp)
	w.text("annotations.authorization.k8s.io.decision", row.AuthorizationDecision)
	w.text("annotations.authorization.k8s.io.reason", row.AuthorizationReason)
	w.text("kubernetes.pod_name", row.Kubernetes.PodName)
	w.text("kubernetes.namespace_name", row.Kubernetes.NamespaceName)
	w.text("kubernetes.pod_id", row.Kubernetes.PodID)
	w.text("kubernetes.labels.component", row.Kubernetes.LabelsComponent)
	w.text("kubernetes.labels.tier", row.Kubernetes.LabelsTier)
	w.text("kubernetes.host", row.Kubernetes.Host)
	w.text("kubernetes.container_name", row.Kubernetes.ContainerName)
	w.text("kubernetes.docker_id", row.Kubernetes.DockerID)
	w.text("kubernetes.container_hash", row.Kubernetes.ContainerHash)
	w.text("kubernetes.container_image", row.Kubernetes.ContainerImage)
	w.token(jsontext.EndObject)
}

func (w *rowWriter) endpoint(prefix string, e *event.Endpoint) {
	w.text(prefix+"IP", e.IP)
	w.text(prefix+"ASCountryCode", e.ASCountryCode)
	w.unsigned(prefix+"ASNumber", e.ASNumber)
	w.text(prefix+"ASOrganization", e.ASOrganization)
	w.text(prefix+"City", e.City)
	w.text(prefix+"ConnectionType", e.ConnectionType)
	w.text(prefix+"ISP", e.ISP)
	w.number(prefix+"Latitude", e.Latitude)
	w.number(prefix+"Longitude", e.Longitude)
	w.text(prefix+"UserType", e.UserType)
}

func (w *rowWriter) token(token jsontext.Token) {
	if w.err == nil {
		w.err = w.encoder.WriteToken(token)
	}
}

func (w *rowWriter) text(column, value string) {
	w.token(jsontext.String(column))
	w.token(jsontext.String(value))
}

func (w *rowWriter) texts(column string, values []string) {
	w.token(jsontext.String(column))
	w.token(jsontext.BeginArray)
	for _, value := range values {
		w.token(jsontext.String(value))
	}
	w.token(jsontext.EndArray)
}

func (w *rowWriter) pairs(column string, pairs event.Map) {
	w.token(jsontext.String(column))
	w.token(jsontext.BeginObject)
	for _, pair := range pairs {
		w.text(pair.Key, pair.Value)
	}
	w.token(jsontext.EndObject)
}

func (w *rowWriter) unsigned(column string, value uint32) {
	w.token(jsontext.String(column))
	w.token(jsontext.Uint(uint64(value)))
}

func (w *rowWriter) number(column string, value float64) {
	w.token(jsontext.String(column))
	w.token(jsontext.Float(value))
}

func (w *rowWriter) time(column string, seconds uint32) {
	w.text(column, time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339))
}
