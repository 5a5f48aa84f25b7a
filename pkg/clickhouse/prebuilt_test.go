package clickhouse

import (
	"time"

	"github.com/auditstream/auditstream/pkg/event"
)

// prebuiltColumns are the rows as one slice for each column, in order and of the
// types that the driver appends without conversion. It is what an insert is
// measured against: the benchmarks' ceiling, not the sink's way.
func prebuiltColumns(rows []event.Row) []any {
	b := prebuilder{columns: make([]any, 0, len(columns)), rows: rows}
	b.text(func(r *event.Row) string { return r.WorkspaceID })
	b.text(func(r *event.Row) string { return r.SourceID })
	b.text(func(r *event.Row) string { return r.SourceType })
	b.uint32(func(r *event.Row) uint32 { return r.SourceTTL })
	b.time(func(r *event.Row) uint32 { return r.ReceivedAt })
	b.text(func(r *event.Row) string { return r.ID })
	b.time(func(r *event.Row) uint32 { return r.EventTime })
	b.text(func(r *event.Row) string { return r.EventName })
	b.text(func(r *event.Row) string { return r.EventID })
	b.endpoint(func(r *event.Row) *event.Endpoint { return &r.Src })
	b.endpoint(func(r *event.Row) *event.Endpoint { return &r.Dst })
	b.mapping(func(r *event.Row) event.Map { return r.Actor })
	b.mapping(func(r *event.Row) event.Map { return r.Tags })
	b.texts(func(r *event.Row) []string { return r.Resources })
	b.text(func(r *event.Row) string { return r.ServiceName })
	b.columns = append(b.columns, gather(rows, func(r *event.Row) bool { return r.ReadOnly }))
	b.text(func(r *event.Row) string { return string(r.RawLog) })
	b.time(func(r *event.Row) uint32 { return r.Date })
	b.text(func(r *event.Row) string { return r.Stream })
	b.time(func(r *event.Row) uint32 { return r.Time })
	b.text(func(r *event.Row) string { return r.Kind })
	b.text(func(r *event.Row) string { return r.APIVersion })
	b.text(func(r *event.Row) string { return r.Level })
	b.text(func(r *event.Row) string { return r.AuditID })
	b.text(func(r *event.Row) string { return r.Stage })
	b.text(func(r *event.Row) string { return r.RequestURI })
	b.text(func(r *event.Row) string { return r.Verb })
	b.text(func(r *event.Row) string { return r.UserUsername })
	b.texts(func(r *event.Row) []string { return r.UserGroups })
	b.texts(func(r *event.Row) []string { return r.SourceIPs })
	b.text(func(r *event.Row) string { return r.UserAgent })
	b.text(func(r *event.Row) string { return r.ObjectRefResource })
	b.text(func(r *event.Row) string { return r.ObjectRefNamespace })
	b.text(func(r *event.Row) string { return r.ObjectRefName })
	b.text(func(r *event.Row) string { return r.ObjectRefAPIVersion })
	b.text(func(r *event.Row) string { return r.ResponseStatusMetadata })
	b.columns = append(b.columns, gather(rows, func(r *event.Row) int64 { return r.ResponseStatusCode }))
	b.text(func(r *event.Row) string { return r.RequestReceivedTimestamp })
	b.text(func(r *event.Row) string { return r.StageTimestamp })
	b.text(func(r *event.Row) string { return r.AuthorizationDecision })
	b.text(func(r *event.Row) string { return r.AuthorizationReason })
	b.text(func(r *event.Row) string { return r.Kubernetes.PodName })
	b.text(func(r *event.Row) string { return r.Kubernetes.NamespaceName })
	b.text(func(r *event.Row) string { return r.Kubernetes.PodID })
	b.text(func(r *event.Row) string { return r.Kubernetes.LabelsComponent })
	b.text(func(r *event.Row) string { return r.Kubernetes.LabelsTier })
	b.text(func(r *event.Row) string { return r.Kubernetes.Host })
	b.text(func(r *event.Row) string { return r.Kubernetes.ContainerName })
	b.text(func(r *event.Row) string { return r.Kubernetes.DockerID })
	b.text(func(r *event.Row) string { return r.Kubernetes.ContainerHash })
	b.text(func(r *event.Row) string { return r.Kubernetes.ContainerImage })
	return b.columns
}

type prebuilder struct {
	columns []any
	rows    []event.Row
}

func gather[T any](rows []event.Row, of func(*event.Row) T) []T {
	values := make([]T, len(rows))
	for i := range rows {
		values[i] = of(&rows[i])
	}
	return values
}

func (b *prebuilder) text(of func(*event.Row) string) {
	b.columns = append(b.columns, gather(b.rows, of))
}

func (b *prebuilder) texts(of func(*event.Row) []string) {
	b.columns = append(b.columns, gather(b.rows, of))
}

func (b *prebuilder) uint32(of func(*event.Row) uint32) {
	b.columns = append(b.columns, gather(b.rows, of))
}

func (b *prebuilder) time(of func(*event.Row) uint32) {
	b.columns = append(b.columns, gather(b.rows, func(r *event.Row) time.Time { return time.Unix(int64(of(r)), 0) }))
}

func (b *prebuilder) mapping(of func(*event.Row) event.Map) {
	b.columns = append(b.columns, gather(b.rows, func(r *event.Row) map[string]string {
		entries := make(map[string]string)
		for _, pair := range of(r) {
			entries[pair.Key] = pair.Value
		}
		return entries
	}))
}

func (b *prebuilder) endpoint(of func(*event.Row) *event.Endpoint) {
	b.text(func(r *event.Row) string { return of(r).IP })
	b.text(func(r *event.Row) string { return of(r).ASCountryCode })
	b.uint32(func(r *event.Row) uint32 { return of(r).ASNumber })
	b.text(func(r *event.Row) string { return of(r).ASOrganization })
	b.text(func(r *event.Row) string { return of(r).City })
	b.text(func(r *event.Row) string { return of(r).ConnectionType })
	b.text(func(r *event.Row) string { return of(r).ISP })
	b.columns = append(b.columns, gather(b.rows, func(r *event.Row) float64 { return of(r).Latitude }))
	b.columns = append(b.columns, gather(b.rows, func(r *event.Row) float64 { return of(r).Longitude }))
	b.text(func(r *event.Row) string { return of(r).UserType })
}
