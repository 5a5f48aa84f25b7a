package trace_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/services/auditstream/stack"
	"github.com/auditstream/auditstream/services/auditstream/trace"
	"github.com/auditstream/auditstream/topics"
)

func TestEveryEnd(t *testing.T) {
	p := start(t)
	stop := p.run(config.CommandFetcher, config.CommandEnricher, config.CommandSink)
	body := strings.Join([]string{
		auditEvent("first", "RequestReceived"), // 1
		"not json",                             // 2
		"",                                     // 3: skipped by the fetcher
		`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[]}`,                                                                  // 4: skipped by the enricher
		`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + auditEvent("a", "Panic") + "," + auditEvent("b", "Panic") + "]}", // 5
		auditEvent("first", "ResponseComplete"),                                                                                           // 6
		"",
	}, "\n")
	object := p.put("ends.log", body)
	uri := "s3://" + stack.DefaultBucket + "/ends.log"
	const way = "stored found, announced found, "

	t.Run("row", func(t *testing.T) {
		one := p.ends(identity.RowID(object, 1, 0), trace.OutcomeRow)
		require.Equal(t, way+"raw found, normalized found, row found", hops(one))
		require.Equal(t, uri, one.Object.URI())
		require.Equal(t, stack.DefaultSourceID, one.Object.Source)
		require.Equal(t, "listed", hop(t, one, "announced").Cause)
		row := hop(t, one, "row")
		require.Equal(t, uint64(1), *row.Rows)
		require.Equal(t, time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC), *row.EventTime)
		require.Equal(t, *hop(t, one, "stored").At, *row.ReceivedAt)
		// Each hop where it says.
		for _, name := range []string{"announced", "raw", "normalized"} {
			at := hop(t, one, name)
			require.NotNil(t, at.Delay, name)
			record := p.record(at.Topic, *at.Partition, *at.Offset)
			require.Equal(t, at.At.UnixMilli(), record.Timestamp.UnixMilli())
			if name == "raw" {
				require.Equal(t, auditEvent("first", "RequestReceived"), string(record.Value))
			}
		}
		require.Equal(t, one, p.ends(uri+":1", trace.OutcomeRow), "by its place in the object it is the same")
	})
	t.Run("audit id", func(t *testing.T) {
		require.True(t, p.eventually(func() bool { return len(p.trace("first").Traces) == 2 }), "a row for each stage")
		report := p.trace("first")
		require.Equal(t, identity.RowID(object, 1, 0), report.Traces[0].ID)
		require.Equal(t, identity.RowID(object, 6, 0), report.Traces[1].ID)
		require.Empty(t, report.Notes)
	})
	t.Run("several events of a line", func(t *testing.T) {
		one := p.ends(identity.RowID(object, 5, 1), trace.OutcomeRow)
		require.Equal(t, uint64(1), *hop(t, one, "row").Rows)
		one = p.ends(uri+":5", trace.OutcomeRow)
		require.Equal(t, uint64(2), *hop(t, one, "row").Rows)
		require.Equal(t, uint64(2), *hop(t, one, "row").IDs)
		require.Equal(t, identity.RowID(object, 5, 1), p.ends("b", trace.OutcomeRow).ID)
	})
	t.Run("dead letter", func(t *testing.T) {
		one := p.ends(uri+":2", trace.OutcomeDeadLetter)
		require.Equal(t, way+"raw found, dead letter found", hops(one))
		letter := hop(t, one, "dead letter")
		require.Equal(t, []string{"enricher", "not-json"}, []string{letter.Stage, letter.Reason})
		require.NotEmpty(t, letter.Error)
	})
	t.Run("skipped by the fetcher", func(t *testing.T) {
		one := p.ends(uri+":3", trace.OutcomeSkipped)
		require.Equal(t, way+"skipped found", hops(one))
		require.Equal(t, "blank", hop(t, one, "skipped").Reason)
	})
	t.Run("skipped by the enricher", func(t *testing.T) {
		one := p.ends(uri+":4", trace.OutcomeSkipped)
		require.Equal(t, way+"raw found, skipped found", hops(one))
		require.Equal(t, "empty-list", hop(t, one, "skipped").Reason)
	})
	t.Run("no such line", func(t *testing.T) {
		one := p.ends(uri+":7", trace.OutcomeNotFound)
		require.Contains(t, hop(t, one, "raw").Text, "only 6 lines")
	})
	t.Run("object", func(t *testing.T) {
		one := p.ends(object, trace.OutcomeComplete)
		require.Equal(t, way+"split found, row found", hops(one))
		require.Equal(t, int64(6), *hop(t, one, "split").Lines)
		require.Equal(t, uint64(4), *hop(t, one, "row").Rows)
		require.Equal(t, one, p.ends(uri, trace.OutcomeComplete))
	})
	t.Run("object set aside", func(t *testing.T) {
		var zipped bytes.Buffer
		zipped.WriteString("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03 this is no gzip")
		broken := p.put("broken.gz", zipped.String())
		one := p.ends(broken, trace.OutcomeDeadLetter)
		letter := hop(t, one, "dead letter")
		require.Equal(t, []string{"fetcher", "object-corrupt"}, []string{letter.Stage, letter.Reason})
		one = p.ends("s3://"+stack.DefaultBucket+"/broken.gz:12", trace.OutcomeDeadLetter)
		require.Contains(t, hop(t, one, "raw").Text, "set aside after line 0")
	})
	t.Run("unknown", func(t *testing.T) {
		p.ends(strings.Repeat("f", 32), trace.OutcomeNotFound)
		require.Empty(t, p.trace("no-such-audit-id").Traces)
		require.False(t, p.trace("no-such-audit-id").Found())
		report := p.trace("s3://" + stack.DefaultBucket + "/nothing")
		require.Empty(t, report.Traces)
		_, err := p.tracer.Trace(t.Context(), " ")
		require.ErrorIs(t, err, trace.ErrNoTarget)
	})
	t.Run("doubled row", func(t *testing.T) {
		require.NoError(t, p.conn.Exec(t.Context(), "SYSTEM STOP MERGES kubernetes_audit_logs"))
		require.NoError(t, p.conn.Exec(t.Context(), "INSERT INTO kubernetes_audit_logs SELECT * FROM kubernetes_audit_logs WHERE id = ?",
			identity.RowID(object, 6, 0)))
		row := hop(t, p.ends(uri+":6", trace.OutcomeRow), "row")
		require.Equal(t, []uint64{2, 1}, []uint64{*row.Rows, *row.IDs})
	})
	t.Run("a shard is away", func(t *testing.T) {
		away := p.cfg.ClickHouse
		away.Addresses, away.DialTimeout = []string{"127.0.0.1:1"}, time.Second
		conn, err := clickhouse.Connect(away, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		defer conn.Close()
		whole := p.tracer
		defer func() { p.tracer = whole }()
		p.tracer = p.newTracer(p.conn, conn)
		p.ends(uri+":1", trace.OutcomeRow)
		require.Contains(t, strings.Join(p.trace(uri+":1").Notes, "\n"), "the table can't be asked")
		require.Len(t, p.trace("first").Traces, 2)
		p.tracer = p.newTracer(conn)
		one := p.ends(uri+":1", trace.OutcomeUnknown)
		require.Equal(t, trace.Unknown, hop(t, one, "row").State)
	})
	stop()
	t.Run("JSON", func(t *testing.T) {
		report := p.trace(uri + ":2")
		text, err := json.Marshal(report)
		require.NoError(t, err)
		var again trace.Report
		require.NoError(t, json.Unmarshal(text, &again))
		require.Equal(t, report.Traces[0].Hops, again.Traces[0].Hops)
	})
	t.Run("gone", func(t *testing.T) {
		bucket, key := stack.DefaultBucket, "ends.log"
		_, err := p.stack.S3().Client().DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
		require.NoError(t, err)
		one := p.ends(uri+":1", trace.OutcomeRow)
		require.Equal(t, "stored absent, announced found, raw found, normalized found, row found", hops(one),
			"the announcement tells which object it was")
		// Retention of one topic after the other.
		p.expire(p.names.Raw)
		one = p.ends(identity.RowID(object, 1, 0), trace.OutcomeRow)
		require.Equal(t, "stored absent, announced found, raw expired, normalized found, row found", hops(one))
		require.Contains(t, hop(t, one, "raw").Text, "no longer in the topic, retention 7 d")
		p.expire(p.names.Normalized)
		require.NoError(t, p.conn.Exec(t.Context(), "SYSTEM START MERGES kubernetes_audit_logs")) // which delete, too
		require.NoError(t, p.conn.Exec(t.Context(), "DELETE FROM kubernetes_audit_logs WHERE id = ?", identity.RowID(object, 1, 0)))
		one = p.ends(identity.RowID(object, 1, 0), trace.OutcomeExpired)
		require.Equal(t, "stored absent, announced found, raw expired, normalized expired, row absent", hops(one))
		p.expire(p.names.Objects)
		one = p.ends(identity.RowID(object, 6, 0), trace.OutcomeRow)
		require.Equal(t, uri, one.Object.URI(), "the ledger knows it")
		// The ledger's topic, too; what is left is its table.
		p.expire(p.names.Ledger)
		require.NoError(t, p.conn.Exec(t.Context(), "TRUNCATE TABLE auditstream_objects"))
		p.ends(identity.RowID(object, 3, 0), trace.OutcomeExpired)
		require.NoError(t, p.conn.Exec(t.Context(), "INSERT INTO auditstream_objects"+
			" (id, kind, sourceID, receivedAt, recordedAt, object, endpoint, bucket, key, etag, lines, stage, outcome, reason, ranges) VALUES"+
			" ('1', 'lines', 'local', now(), now(), ?, '', '', '', '', 0, 'fetcher', 'skip', 'blank', [(2, 3), (9, 9)]),"+
			" ('2', 'object', 'local', now(), now(), ?, 'e', 'audit-logs', 'ends.log', 't', 6, 'fetcher', 'complete', '', [])", object, object))
		one = p.ends(identity.RowID(object, 3, 0), trace.OutcomeSkipped)
		require.Equal(t, uri, one.Object.URI())
		require.Contains(t, hop(t, one, "skipped").Text, "says the ledger's table")
		p.ends(identity.RowID(object, 7, 0), trace.OutcomeNotFound)
	})
}

// expire takes all there is from a topic, as retention does.
func (p *pipeline) expire(topic string) {
	p.t.Helper()
	ends, err := p.admin.ListEndOffsets(p.t.Context(), topic)
	require.NoError(p.t, err)
	deleted, err := p.admin.DeleteRecords(p.t.Context(), ends.Offsets())
	require.NoError(p.t, err)
	require.NoError(p.t, deleted.Error())
}

func (p *pipeline) record(topic string, partition int32, offset int64) *kgo.Record {
	p.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.cfg.Kafka.Brokers...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(offset)}}))
	require.NoError(p.t, err)
	defer client.Close()
	fetches := client.PollRecords(p.t.Context(), 1)
	require.NoError(p.t, fetches.Err())
	require.Equal(p.t, offset, fetches.Records()[0].Offset)
	return fetches.Records()[0]
}

// What is under way is at the hop before the stage that has not come to it.
func TestUnderWay(t *testing.T) {
	p := start(t)
	object := p.put("way.log", auditEvent("x", "Panic")+"\n"+auditEvent("y", "Panic")+"\n")
	id := identity.RowID(object, 2, 0)
	uri := "s3://" + stack.DefaultBucket + "/way.log:2"
	one := p.ends(uri, trace.OutcomeNotFound)
	require.Equal(t, "stored found, announced absent", strings.Join(strings.Split(hops(one), ", ")[:2], ", "), "in the bucket, and nobody was told")

	announce := topics.Object{
		ID: object, Source: stack.DefaultSourceID, Endpoint: p.cfg.S3.Alias, Bucket: stack.DefaultBucket, Key: "way.log",
		Cause: topics.CauseNotified, FromLine: 1,
	}
	bucket, key := announce.Bucket, announce.Key
	head, err := p.stack.S3().Client().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: &key})
	require.NoError(t, err)
	announce.ETag = strings.Trim(*head.ETag, `"`)
	record, err := announce.Record(p.names.Objects)
	require.NoError(t, err)
	require.NoError(t, p.client.ProduceSync(t.Context(), record).FirstErr())
	one = p.ends(id, trace.OutcomeUnderWay)
	require.Equal(t, "stored found, announced found, split waiting", hops(one))
	require.Equal(t, int64(1), *hop(t, one, "split").Lag)

	stop := p.run(config.CommandFetcher)
	var report *trace.Trace
	require.True(t, p.eventually(func() bool {
		report = p.ends(id, trace.OutcomeUnderWay)
		return hops(report) == "stored found, announced found, raw found, normalized waiting"
	}), hops(report))
	require.Contains(t, hop(t, report, "normalized").Text, "not there yet: the enricher has not come to it (lag ")
	require.Equal(t, id, p.ends("y", trace.OutcomeUnderWay).ID, "an audit id is found in raw when it is nowhere else")
	stop()

	stop = p.run(config.CommandEnricher)
	require.True(t, p.eventually(func() bool {
		report = p.ends(id, trace.OutcomeUnderWay)
		return hops(report) == "stored found, announced found, raw found, normalized found, row waiting"
	}), hops(report))
	require.Equal(t, id, p.ends("y", trace.OutcomeUnderWay).ID, "an audit id is found in normalized")
	stop()

	// An intent that covers it.
	at := hop(t, report, "normalized")
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{
		Topic: at.Topic, Partition: *at.Partition, At: 0, LeaderEpoch: -1,
		Metadata: fmt.Sprintf(`auditstream/1 {"intent":{"to":%d,"records":1,"ids":"000102030405060708090a0b0c0d0e0f","attempt":1,"target":"t","at":1700000000}}`, *at.Offset+1),
	})
	require.NoError(t, p.admin.CommitAllOffsets(t.Context(), p.cfg.Kafka.Group+"-sink", offsets))
	require.Contains(t, hop(t, p.ends(id, trace.OutcomeUnderWay), "row").Text, "is inserting it")

	// The sink is past it, and it is not there.
	offsets = nil
	offsets.Add(kadm.Offset{Topic: at.Topic, Partition: *at.Partition, At: *at.Offset + 1, LeaderEpoch: -1})
	require.NoError(t, p.admin.CommitAllOffsets(t.Context(), p.cfg.Kafka.Group+"-sink", offsets))
	one = p.ends(id, trace.OutcomeMissing)
	require.Contains(t, hop(t, one, "row").Text, "although the sink is at")
}
