package audit

import (
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
)

const serviceName = "kubernetes"

// The annotations that have columns.
const (
	decisionKey = "authorization.k8s.io/decision"
	reasonKey   = "authorization.k8s.io/reason"
)

const truncatedKey = "audit.k8s.io/truncated"

// emitRow hands out the event of a level, with what the levels around it say.
func (n *Normalizer) emitRow(level int, raw []byte) {
	if !n.line.Extent.Wants(n.position, n.line.Event) {
		n.position++
		return
	}
	row, e := &n.row, &n.levels[level].e
	row.Reset()
	n.fillSource(row)
	n.fillWrapper(row, level)
	fillEvent(row, e)
	orElse(&row.AuthorizationDecision, e.annotation(decisionKey, "authorization_k8s_io"))
	orElse(&row.AuthorizationReason, e.annotation(reasonKey, "authorization_k8s_io"))
	row.RawLog = raw

	n.tags(row, level)
	n.fillTime(row, level)
	n.fillEndpoints(row, e)
	row.Actor = n.actor(e, row.Actor)
	n.fillTarget(row, e)

	n.at = level
	n.result.Rows++
	n.position++
	n.emit(row)
}

func (n *Normalizer) fillSource(row *event.Row) {
	row.WorkspaceID = n.source.WorkspaceID
	row.SourceID = n.source.ID
	row.SourceType = n.source.Type
	row.SourceTTL = n.source.TTLDays
	row.ReceivedAt, _ = clampSeconds(n.line.ReceivedAt / 1000)
	n.id = identity.AppendRowID(n.id[:0], n.line.ObjectID, n.line.Number, n.position)
	row.ID = view(n.id)
	row.ServiceName = serviceName
}

func fillEvent(row *event.Row, e *auditEvent) {
	row.Kind, row.APIVersion = e.kind, e.apiVersion
	row.Level, row.Stage = e.level, e.stage
	row.AuditID, row.EventID = e.auditID, e.auditID
	row.RequestURI, row.Verb, row.UserAgent = e.requestURI, e.verb, e.userAgent
	row.UserUsername = e.user.username
	row.UserGroups, row.SourceIPs = e.user.groups, e.sourceIPs
	row.ObjectRefResource = e.object.resource
	row.ObjectRefNamespace = e.object.namespace
	row.ObjectRefName = e.object.name
	row.ObjectRefAPIVersion = e.object.apiVersion
	row.ResponseStatusMetadata = e.responseMetadata
	row.ResponseStatusCode = e.responseCode
	row.RequestReceivedTimestamp = e.requestReceivedTimestamp
	row.StageTimestamp = e.stageTimestamp
}

// fillWrapper takes each of the shipper's columns from the innermost level that
// has it: the one nearest to the event.
func (n *Normalizer) fillWrapper(row *event.Row, level int) {
	var date, time string
	for l := level; l >= 0; l-- {
		w := &n.levels[l].w
		orElse(&date, w.date)
		orElse(&time, w.time)
		orElse(&row.Stream, w.stream)
		k, from := &row.Kubernetes, &w.kubernetes
		orElse(&k.PodName, from.PodName)
		orElse(&k.NamespaceName, from.NamespaceName)
		orElse(&k.PodID, from.PodID)
		orElse(&k.Host, from.Host)
		orElse(&k.ContainerName, from.ContainerName)
		orElse(&k.DockerID, from.DockerID)
		orElse(&k.DockerID, w.dockerID)
		orElse(&k.ContainerHash, from.ContainerHash)
		orElse(&k.ContainerImage, from.ContainerImage)
		for i := range w.labels.list {
			switch label := &w.labels.list[i]; label.Key {
			case "component":
				orElse(&k.LabelsComponent, label.Value)
			case "tier":
				orElse(&k.LabelsTier, label.Value)
			}
		}
	}
	row.Date = clampText(date)
	row.Time = clampText(time)
	if w := &n.levels[level].w; w.level != "" && !isLevel(n.levels[level].e.level) {
		n.levels[level].e.level = w.level
	}
}

func clampText(text string) uint32 {
	seconds, ok := parseTime(text)
	if !ok {
		return 0
	}
	clamped, _ := clampSeconds(seconds)
	return clamped
}

func isLevel(text string) bool {
	switch text {
	case "Metadata", "Request", "RequestResponse", "None":
		return true
	}
	return false
}

// annotation returns the value of key, also when a shipper wrote the key's dots
// as underscores and its slash as such or as underscores too.
func (e *auditEvent) annotation(key, rewritten string) string {
	list := e.annotations.list
	for i := range list {
		if list[i].Key == key {
			return list[i].Value
		}
	}
	for i := range list {
		if sameRewritten(list[i].Key, key, rewritten) {
			return list[i].Value
		}
	}
	return ""
}

// sameRewritten says whether found is key with its domain written as rewritten
// and one of "/", "_" and "_slash_" before the rest.
func sameRewritten(found, key, rewritten string) bool {
	if !hasPrefix(found, rewritten) {
		return false
	}
	found, key = found[len(rewritten):], key[len(rewritten)+1:]
	return found == "/"+key || found == "_"+key || found == "_slash_"+key
}

// tags adds, in this order, the source's own, what is known of the event, its
// annotations and the labels of the pod that wrote it.
func (n *Normalizer) tags(row *event.Row, level int) {
	row.Tags = append(row.Tags, n.source.Tags...)
	for l := level; l >= 0; l-- {
		if cluster := n.levels[l].w.cluster; cluster != "" && row.Tags.Get("cluster") == "" {
			row.Tags.Set("cluster", cluster)
		}
	}
	e := &n.levels[level].e
	for i := range e.annotations.list {
		if e.annotations.list[i].Key == truncatedKey {
			row.Tags.Set("truncated", "true")
		}
	}
	own := len(row.Tags)
	for _, pair := range e.annotations.list {
		if pair.Key == decisionKey || pair.Key == reasonKey {
			continue
		}
		n.addTag(row, own, "annotations.", pair)
	}
	for l := level; l >= 0; l-- {
		labels := n.levels[l].w.labels.list
		if len(labels) == 0 {
			continue
		}
		for _, pair := range labels {
			if pair.Key != "component" && pair.Key != "tier" {
				n.addTag(row, own, "kubernetes.labels.", pair)
			}
		}
		break // of the level nearest to the event, as the kubernetes object is one
	}
}

// addTag adds a tag whose key can only collide with one of the first own.
func (n *Normalizer) addTag(row *event.Row, own int, prefix string, pair event.Pair) {
	key := n.arena.join(prefix, pair.Key)
	for i := range row.Tags[:own] {
		if row.Tags[i].Key == key {
			return
		}
	}
	row.Tags = append(row.Tags, event.Pair{Key: key, Value: pair.Value})
}

// fillTime chooses the event's time: the API server's clocks first, then the
// shippers', then when S3 had it.
func (n *Normalizer) fillTime(row *event.Row, level int) {
	seconds, ok := n.eventTime(level)
	if !ok {
		row.EventTime = row.ReceivedAt
		return
	}
	var outside bool
	if row.EventTime, outside = clampSeconds(seconds); outside {
		row.Tags.Set("eventTimeClamped", "true")
	}
}

func (n *Normalizer) eventTime(level int) (seconds int64, ok bool) {
	e := &n.levels[level].e
	for _, text := range [...]string{e.requestReceivedTimestamp, e.stageTimestamp, e.timestamp} {
		if seconds, ok = parseTime(text); ok {
			return seconds, true
		}
	}
	for l := level; l >= 0; l-- {
		if seconds, ok = parseTime(n.levels[l].w.time); ok {
			return seconds, true
		}
	}
	for l := level; l >= 0; l-- {
		if seconds, ok = parseTime(n.levels[l].w.date); ok {
			return seconds, true
		}
	}
	for l := level; l >= 0; l-- {
		if seconds, ok = parseTime(n.levels[l].w.arrived); ok {
			return seconds, true
		}
		if seconds, ok = parseTime(n.levels[l].e.timestamp); ok {
			return seconds, true
		}
	}
	return 0, false
}

func (n *Normalizer) fillEndpoints(row *event.Row, e *auditEvent) {
	if addr, ok := clientAddress(e.sourceIPs, n.source.TrustedProxies); ok {
		start := len(n.arena.buf)
		n.arena.buf = addr.AppendTo(n.arena.buf)
		row.Src.IP = n.arena.from(start)
		if n.locator != nil {
			if anonymous := n.locator.Locate(addr, &row.Src); anonymous != "" {
				row.Tags.Set("srcAnonymous", anonymous)
			}
		}
	}
	if addr := n.source.APIServerIP; addr.IsValid() {
		start := len(n.arena.buf)
		n.arena.buf = addr.AppendTo(n.arena.buf)
		row.Dst.IP = n.arena.from(start)
		if n.locator != nil {
			n.locator.Locate(addr, &row.Dst)
		}
	}
}

func (n *Normalizer) fillTarget(row *event.Row, e *auditEvent) {
	t := e.target()
	start := len(n.arena.buf)
	n.arena.buf = t.appendName(n.arena.buf, e.verb)
	row.EventName = n.arena.from(start)
	start = len(n.arena.buf)
	if n.arena.buf = t.appendPath(n.arena.buf); len(n.arena.buf) > start {
		row.Resources = append(row.Resources, n.arena.from(start))
	}
	row.ReadOnly = t.readOnly(e)
}
