// Package event is the event model that the stages share: one Row is one
// Kubernetes audit event as the 69 columns of the table kubernetes_audit_logs.
//
// The enricher fills rows, the topic `normalized` carries them, the sink
// appends them to columns. The package knows neither Kafka nor ClickHouse.
package event

// Row holds one event, a field per column and in the order of the columns.
//
// A Row is reused from event to event. Its strings may point into the line
// they were taken from or into a buffer of whoever filled the row; they are
// valid until that owner's next call. Whoever keeps one longer copies it.
//
// Times are seconds since 1970-01-01 UTC, the range of ClickHouse's DateTime.
type Row struct {
	WorkspaceID string
	SourceID    string
	SourceType  string
	SourceTTL   uint32 // days; 0 keeps for ever
	ReceivedAt  uint32
	ID          string
	EventTime   uint32
	EventName   string
	EventID     string

	Src Endpoint
	Dst Endpoint

	Actor       Map
	Tags        Map
	Resources   []string
	ServiceName string
	ReadOnly    bool
	RawLog      []byte // the line, byte for byte; the one text that may be invalid UTF-8

	Date   uint32
	Stream string
	Time   uint32

	Kind                     string
	APIVersion               string
	Level                    string
	AuditID                  string
	Stage                    string
	RequestURI               string
	Verb                     string
	UserUsername             string
	UserGroups               []string
	SourceIPs                []string
	UserAgent                string
	ObjectRefResource        string
	ObjectRefNamespace       string
	ObjectRefName            string
	ObjectRefAPIVersion      string
	ResponseStatusMetadata   string // compact JSON
	ResponseStatusCode       int64
	RequestReceivedTimestamp string
	StageTimestamp           string
	AuthorizationDecision    string
	AuthorizationReason      string

	Kubernetes KubernetesMetadata
}

// Endpoint is an address and what the GeoIP databases say of it: the ten src
// or the ten dst columns.
type Endpoint struct {
	IP             string
	ASCountryCode  string
	ASNumber       uint32
	ASOrganization string
	City           string
	ConnectionType string
	ISP            string
	Latitude       float64
	Longitude      float64
	UserType       string
}

// KubernetesMetadata is the shipper's `kubernetes` object: the pod that wrote
// the line (the API server's), never the object of the request.
type KubernetesMetadata struct {
	PodName         string
	NamespaceName   string
	PodID           string
	LabelsComponent string
	LabelsTier      string
	Host            string
	ContainerName   string
	DockerID        string
	ContainerHash   string
	ContainerImage  string
}

// Pair is one entry of a Map column.
type Pair struct{ Key, Value string }

// Map is a Map(String, String) column's value with the order of insertion kept,
// so that the same line always encodes to the same bytes.
type Map []Pair

// Set adds the pair, or replaces the value of a key that is there (last wins).
func (m *Map) Set(key, value string) {
	for i := range *m {
		if (*m)[i].Key == key {
			(*m)[i].Value = value
			return
		}
	}
	*m = append(*m, Pair{key, value})
}

// Get returns the value of key, or "".
func (m Map) Get(key string) string {
	for i := range m {
		if m[i].Key == key {
			return m[i].Value
		}
	}
	return ""
}

// Reset empties the row and keeps the capacity of its slices.
func (r *Row) Reset() {
	*r = Row{
		Actor:      r.Actor[:0],
		Tags:       r.Tags[:0],
		Resources:  r.Resources[:0],
		UserGroups: r.UserGroups[:0],
		SourceIPs:  r.SourceIPs[:0],
	}
}
