package clickhouse

// Column is one column of the table.
type Column struct {
	Name, Type, Codec string
}

// columns are the table, in order: the one list that the DDL, the check, the
// diff and the insert are made from. Names, order and types are fixed; queries
// and other products read them.
//
// Codecs. Everything is ZSTD(1): audit logs repeat themselves, and reading
// fewer bytes is worth more to a scan than LZ4's cheaper decompression. rawLog
// is most of the bytes and rarely read, so it gets ZSTD(3). Rows are sorted by
// receivedAt within a source and the other times follow it closely, so the
// times are stored as differences.
var columns = [...]Column{
	{"workspaceID", "String", "ZSTD(1)"},
	{"sourceID", "String", "ZSTD(1)"},
	{"sourceType", "LowCardinality(String)", "ZSTD(1)"},
	{"sourceTTL", "UInt32", "ZSTD(1)"},
	{"receivedAt", "DateTime", "DoubleDelta, ZSTD(1)"},
	{"id", "String", "ZSTD(1)"},
	{"eventTime", "DateTime", "Delta(4), ZSTD(1)"},
	{"eventName", "String", "ZSTD(1)"},
	{"eventID", "String", "ZSTD(1)"},
	{"srcIP", "String", "ZSTD(1)"},
	{"srcASCountryCode", "String", "ZSTD(1)"},
	{"srcASNumber", "UInt32", "ZSTD(1)"},
	{"srcASOrganization", "String", "ZSTD(1)"},
	{"srcCity", "String", "ZSTD(1)"},
	{"srcConnectionType", "String", "ZSTD(1)"},
	{"srcISP", "String", "ZSTD(1)"},
	{"srcLatitude", "Float64", "ZSTD(1)"},
	{"srcLongitude", "Float64", "ZSTD(1)"},
	{"srcUserType", "String", "ZSTD(1)"},
	{"dstIP", "String", "ZSTD(1)"},
	{"dstASCountryCode", "String", "ZSTD(1)"},
	{"dstASNumber", "UInt32", "ZSTD(1)"},
	{"dstASOrganization", "String", "ZSTD(1)"},
	{"dstCity", "String", "ZSTD(1)"},
	{"dstConnectionType", "String", "ZSTD(1)"},
	{"dstISP", "String", "ZSTD(1)"},
	{"dstLatitude", "Float64", "ZSTD(1)"},
	{"dstLongitude", "Float64", "ZSTD(1)"},
	{"dstUserType", "String", "ZSTD(1)"},
	{"actor", "Map(String, String)", "ZSTD(1)"},
	{"tags", "Map(String, String)", "ZSTD(1)"},
	{"resources", "Array(String)", "ZSTD(1)"},
	{"serviceName", "String", "ZSTD(1)"},
	{"readOnly", "Bool", "ZSTD(1)"},
	{"rawLog", "String", "ZSTD(3)"},
	{"date", "DateTime", "Delta(4), ZSTD(1)"},
	{"stream", "String", "ZSTD(1)"},
	{"time", "DateTime", "Delta(4), ZSTD(1)"},
	{"kind", "String", "ZSTD(1)"},
	{"apiVersion", "String", "ZSTD(1)"},
	{"level", "String", "ZSTD(1)"},
	{"auditID", "String", "ZSTD(1)"},
	{"stage", "String", "ZSTD(1)"},
	{"requestURI", "String", "ZSTD(1)"},
	{"verb", "String", "ZSTD(1)"},
	{"user.username", "String", "ZSTD(1)"},
	{"user.groups", "Array(String)", "ZSTD(1)"},
	{"sourceIPs", "Array(String)", "ZSTD(1)"},
	{"userAgent", "String", "ZSTD(1)"},
	{"objectRef.resource", "String", "ZSTD(1)"},
	{"objectRef.namespace", "String", "ZSTD(1)"},
	{"objectRef.name", "String", "ZSTD(1)"},
	{"objectRef.apiVersion", "String", "ZSTD(1)"},
	{"responseStatus.metadata", "String", "ZSTD(1)"},
	{"responseStatus.code", "Int64", "ZSTD(1)"},
	{"requestReceivedTimestamp", "String", "ZSTD(1)"},
	{"stageTimestamp", "String", "ZSTD(1)"},
	{"annotations.authorization.k8s.io.decision", "String", "ZSTD(1)"},
	{"annotations.authorization.k8s.io.reason", "String", "ZSTD(1)"},
	{"kubernetes.pod_name", "String", "ZSTD(1)"},
	{"kubernetes.namespace_name", "String", "ZSTD(1)"},
	{"kubernetes.pod_id", "String", "ZSTD(1)"},
	{"kubernetes.labels.component", "String", "ZSTD(1)"},
	{"kubernetes.labels.tier", "String", "ZSTD(1)"},
	{"kubernetes.host", "String", "ZSTD(1)"},
	{"kubernetes.container_name", "String", "ZSTD(1)"},
	{"kubernetes.docker_id", "String", "ZSTD(1)"},
	{"kubernetes.container_hash", "String", "ZSTD(1)"},
	{"kubernetes.container_image", "String", "ZSTD(1)"},
}

// Columns are the table's columns in order.
func Columns() []Column { return append([]Column(nil), columns[:]...) }

// Index is one data-skipping index.
type Index struct {
	Name, Expression, Type string
}

// indexes serve the questions of a security engineer that the sorting key
// (workspaceID, sourceID, receivedAt, id) does not.
//
//   - Which events happened between two moments: eventTime follows receivedAt,
//     so the smallest and largest per granule skip nearly everything, at almost
//     no cost.
//   - What did this request do (auditID, eventID), what did this address do
//     (srcIP, sourceIPs), what did this user do (user.username, any value of
//     the actor map, such as actor['serviceAccount'] or
//     actor['impersonatedUsername']): equality on values that are rare within
//     8192 rows, which is what Bloom filters are for. One in a hundred
//     granules is read in vain.
//   - Rare operations (eventName: `create pods/exec`), the objects they touch
//     (objectRef.namespace, objectRef.name): the same.
//   - Refusals and failures (responseStatus.code): a handful of codes per
//     granule, kept as a set.
//
// Every index is computed at insert and again in each merge. There is none on
// rawLog: a token filter over whole lines would cost more than all the others
// together. All types exist from ClickHouse 25.8 on; the text index, which
// later versions have, does not.
var indexes = [...]Index{
	{"idx_eventTime", "eventTime", "minmax"},
	{"idx_eventID", "eventID", "bloom_filter(0.01)"},
	{"idx_auditID", "auditID", "bloom_filter(0.01)"},
	{"idx_srcIP", "srcIP", "bloom_filter(0.01)"},
	{"idx_sourceIPs", "sourceIPs", "bloom_filter(0.01)"},
	{"idx_username", "`user.username`", "bloom_filter(0.01)"},
	{"idx_actor_values", "mapValues(actor)", "bloom_filter(0.01)"},
	{"idx_eventName", "eventName", "bloom_filter(0.01)"},
	{"idx_namespace", "`objectRef.namespace`", "bloom_filter(0.01)"},
	{"idx_object", "`objectRef.name`", "bloom_filter(0.01)"},
	{"idx_responseCode", "`responseStatus.code`", "set(64)"},
}

// Partition, order and expiry hold only columns that doing work again can't
// change, so that even a row written twice collapses.
//
// Partition by month of receivedAt: what a log says can't make partitions.
// Most questions name a workspace and a stretch of time, and the key serves
// both; receivedAt before id keeps a source's rows in the order of time.
const (
	partitionKey = "toYYYYMM(receivedAt)"
	sortingKey   = "workspaceID, sourceID, receivedAt, id"
	ttl          = "receivedAt + toIntervalDay(sourceTTL)"
	ttlCondition = "sourceTTL > 0"
)

// The deduplication window counts blocks of all writers, one for each partition
// of the table that an insert touches. It must outlast the inserts of all
// others between an attempt and its retry: with 100 Kafka partitions, two
// batches each and a year of backfill in every one, that is 2,400.
const (
	deduplicationWindow        = 10000
	deduplicationWindowSeconds = 7 * 24 * 3600
	// smallestWindow is refused below.
	smallestWindow        = 1000
	smallestWindowSeconds = 3600
)
