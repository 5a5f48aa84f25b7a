package officialtypes

import (
	"encoding/json"
	"maps"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/auditstream/auditstream/pkg/event"
)

// columns are the columns that an event decides.
type columns struct {
	EventTime                                                                uint32
	EventName, EventID, SrcIP                                                string
	Actor, Tags                                                              map[string]string
	Resources                                                                []string
	ServiceName                                                              string
	ReadOnly                                                                 bool
	Kind, APIVersion, Level, AuditID, Stage, RequestURI, Verb, UserUsername  string
	UserGroups, SourceIPs                                                    []string
	UserAgent, ObjectResource, ObjectNamespace, ObjectName, ObjectAPIVersion string
	ResponseMetadata                                                         *metav1.ListMeta
	ResponseCode                                                             int64
	RequestReceivedTimestamp, StageTimestamp, Decision, Reason               string
	Others                                                                   event.Row // the shipper's and the configuration's
}

const (
	receivedAt = 1_700_000_000
	decision   = "authorization.k8s.io/decision"
	reason     = "authorization.k8s.io/reason"
)

// clean is what becomes of a text on its way through JSON: each byte that is no
// UTF-8 is replaced.
func clean(text string) string {
	return string([]rune(text))
}

func cleanAll(texts []string) []string {
	all := []string{}
	for _, text := range texts {
		all = append(all, clean(text))
	}
	return all
}

// expected computes the columns from the typed event alone.
func (s *sample) expected() columns {
	e := s.event
	c := columns{
		EventName: clean(s.request.name), EventID: clean(string(e.AuditID)), SrcIP: s.address,
		Resources: []string{}, ServiceName: "kubernetes", ReadOnly: s.request.readOnly,
		Kind: "Event", APIVersion: "audit.k8s.io/v1", Level: string(e.Level), AuditID: clean(string(e.AuditID)), Stage: string(e.Stage),
		RequestURI: clean(e.RequestURI), Verb: e.Verb, UserUsername: clean(e.User.Username),
		UserGroups: cleanAll(e.User.Groups), SourceIPs: cleanAll(e.SourceIPs), UserAgent: clean(e.UserAgent),
		RequestReceivedTimestamp: written(e.RequestReceivedTimestamp), StageTimestamp: written(e.StageTimestamp),
		Decision: clean(e.Annotations[decision]), Reason: clean(e.Annotations[reason]),
	}
	if s.request.resource != "" {
		c.Resources = []string{s.request.resource}
	}
	if o := e.ObjectRef; o != nil {
		c.ObjectResource, c.ObjectNamespace, c.ObjectName, c.ObjectAPIVersion = o.Resource, o.Namespace, o.Name, o.APIVersion
	}
	if e.ResponseStatus != nil {
		c.ResponseCode = int64(e.ResponseStatus.Code)
		metadata := e.ResponseStatus.ListMeta
		metadata.Continue = clean(metadata.Continue)
		c.ResponseMetadata = &metadata
	}
	c.Actor = s.actor()
	c.Tags = map[string]string{"team": "red"}
	for key, value := range e.Annotations {
		if key != decision && key != reason {
			c.Tags["annotations."+key] = clean(value)
		}
		if key == "audit.k8s.io/truncated" {
			c.Tags["truncated"] = "true"
		}
	}
	var clamped bool
	if c.EventTime, clamped = eventTime(e); clamped {
		c.Tags["eventTimeClamped"] = "true"
	}
	return c
}

func written(at metav1.MicroTime) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2006-01-02T15:04:05.000000Z")
}

func eventTime(e *auditv1.Event) (seconds uint32, clamped bool) {
	at := e.RequestReceivedTimestamp
	if at.IsZero() {
		at = e.StageTimestamp
	}
	switch first, last := time.Unix(0, 0), time.Unix(1<<32-1, 0); {
	case at.IsZero():
		return receivedAt, false
	case at.Time.Before(first):
		return 0, true
	case !at.Time.Truncate(time.Second).After(last):
		return uint32(at.Unix()), false
	default:
		return 1<<32 - 1, true
	}
}

func (s *sample) actor() map[string]string {
	u := s.event.User
	kind := s.user.kind
	if kind == "" && s.event.ResponseStatus != nil && s.event.ResponseStatus.Code == 401 {
		kind = "anonymous"
	}
	actor := map[string]string{
		"username": clean(u.Username), "uid": clean(u.UID), "groups": clean(strings.Join(cleanAll(u.Groups), ",")), "type": kind,
		"email": s.user.email, "namespace": s.user.namespace, "serviceAccount": s.user.serviceAccount,
	}
	if i := s.event.ImpersonatedUser; i != nil {
		actor["impersonatedUsername"], actor["impersonatedUID"] = clean(i.Username), clean(i.UID)
		actor["impersonatedGroups"] = strings.Join(cleanAll(i.Groups), ",")
	}
	maps.DeleteFunc(actor, func(_, value string) bool { return value == "" })
	for key, values := range u.Extra {
		actor["extra."+key] = strings.Join(cleanAll(values), ",")
	}
	return actor
}

// columnsOf takes the columns from a row, with copies of all texts. fails is
// called with what cannot be right in any row.
func columnsOf(row *event.Row, fails func(string)) columns {
	c := columns{
		EventTime: row.EventTime, EventName: strings.Clone(row.EventName), EventID: strings.Clone(row.EventID), SrcIP: strings.Clone(row.Src.IP),
		Actor: mapOf(row.Actor, fails), Tags: mapOf(row.Tags, fails), Resources: copied(row.Resources), ServiceName: row.ServiceName, ReadOnly: row.ReadOnly,
		Kind: strings.Clone(row.Kind), APIVersion: strings.Clone(row.APIVersion), Level: strings.Clone(row.Level), AuditID: strings.Clone(row.AuditID),
		Stage: strings.Clone(row.Stage), RequestURI: strings.Clone(row.RequestURI), Verb: strings.Clone(row.Verb), UserUsername: strings.Clone(row.UserUsername),
		UserGroups: copied(row.UserGroups), SourceIPs: copied(row.SourceIPs), UserAgent: strings.Clone(row.UserAgent),
		ObjectResource: strings.Clone(row.ObjectRefResource), ObjectNamespace: strings.Clone(row.ObjectRefNamespace),
		ObjectName: strings.Clone(row.ObjectRefName), ObjectAPIVersion: strings.Clone(row.ObjectRefAPIVersion),
		ResponseCode: row.ResponseStatusCode, RequestReceivedTimestamp: strings.Clone(row.RequestReceivedTimestamp), StageTimestamp: strings.Clone(row.StageTimestamp),
		Decision: strings.Clone(row.AuthorizationDecision), Reason: strings.Clone(row.AuthorizationReason),
	}
	if text := row.ResponseStatusMetadata; text != "" {
		c.ResponseMetadata = new(metav1.ListMeta)
		if err := json.Unmarshal([]byte(text), c.ResponseMetadata); err != nil {
			fails("responseStatus.metadata: " + err.Error())
		}
	}
	c.Others = event.Row{
		WorkspaceID: row.WorkspaceID, SourceID: row.SourceID, SourceType: row.SourceType, SourceTTL: row.SourceTTL, ReceivedAt: row.ReceivedAt,
		Dst: row.Dst, Date: row.Date, Stream: strings.Clone(row.Stream), Time: row.Time, Kubernetes: row.Kubernetes,
	}
	if c.Others.Src = row.Src; true {
		c.Others.Src.IP = ""
	}
	return c
}

func copied(texts []string) []string {
	all := []string{}
	for _, text := range texts {
		all = append(all, strings.Clone(text))
	}
	return all
}

func mapOf(pairs event.Map, fails func(string)) map[string]string {
	m := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		if _, twice := m[pair.Key]; twice {
			fails("twice in a map: " + pair.Key)
		}
		m[strings.Clone(pair.Key)] = strings.Clone(pair.Value)
	}
	return m
}
