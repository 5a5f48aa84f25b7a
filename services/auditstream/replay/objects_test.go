package replay_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/services/auditstream/replay"
	"github.com/auditstream/auditstream/services/fetcher/split"
	"github.com/auditstream/auditstream/services/sink"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

// bucket makes source one's objects real ones.
func (w *world) bucket(objects, lines int) {
	w.t.Helper()
	server := servers.S3(w.t)
	w.cfg.S3 = server.Config("test")
	w.cfg.Sources = w.cfg.Sources[:1]
	w.cfg.Sources[0].Bucket, w.cfg.Sources[0].Listing = server.Bucket, config.Listing{Enabled: true, Interval: 200 * time.Millisecond}
	w.cfg.Fetcher.SliceSize = 64 << 10
	client := server.Client(w.t)
	for object := range objects {
		var body bytes.Buffer
		for line := range lines {
			body.Write(eventLine(object*lines + line))
			body.WriteByte('\n')
		}
		key := fmt.Sprintf("log-%d.json", object)
		_, err := client.PutObject(w.t.Context(), &s3.PutObjectInput{Bucket: &server.Bucket, Key: &key, Body: bytes.NewReader(body.Bytes())})
		require.NoError(w.t, err)
	}
}

func (w *world) ownTopics() []string {
	w.t.Helper()
	listed, err := w.admin.ListTopics(kadm.WithAuthorizedOps(w.t.Context())) // not from the client's memory
	require.NoError(w.t, err)
	var own []string
	for _, name := range listed.Names() {
		if strings.HasPrefix(name, w.cfg.Topics.Prefix+"replay-") {
			own = append(own, name)
		}
	}
	return own
}

// With nothing left of the lines in Kafka, and the table gone, the buckets give
// every row again; dying on the way, it goes on.
func TestObjectsAgain(t *testing.T) {
	w := newWorld(t)
	const objects, lines = 12, 400
	w.bucket(objects, lines)
	stop := w.start(config.CommandFetcher, config.CommandEnricher, config.CommandSink)
	table := w.cfg.ClickHouse.Table
	require.Eventually(t, func() bool { return w.count("SELECT uniqExact(id) FROM "+table) == objects*lines }, patience, 100*time.Millisecond)
	stop()
	for id := range w.ids(table) {
		w.want[id] = true
	}
	require.Len(t, w.want, objects*lines)
	for _, topic := range []string{w.cfg.Topics.Names().Raw, w.cfg.Topics.Names().Normalized} {
		ends, err := w.admin.ListEndOffsets(t.Context(), topic)
		require.NoError(t, err)
		deleted, err := w.admin.DeleteRecords(t.Context(), ends.Offsets())
		require.NoError(t, err)
		require.NoError(t, deleted.Error())
	}
	w.exec("TRUNCATE TABLE " + table)
	w.exec("SYSTEM STOP MERGES " + table)

	opts := w.options(replay.FromObjects)
	dry := opts
	dry.DryRun = true
	w.replay(dry)
	require.Empty(t, w.ownTopics())

	// It dies while it splits, and then while it fills.
	for _, step := range []split.Step{split.StepRead, split.StepTold, split.StepBegun} {
		died, times := opts, 0
		died.SplitHook = func(at split.Step) error {
			if at == step {
				if times++; times == 3 {
					return errors.New("died")
				}
			}
			return nil
		}
		require.ErrorContains(t, w.fails(died), "died", step)
	}
	killed := opts
	seen := dies(&killed, sink.StepInserted, 3)
	require.ErrorContains(t, w.fails(killed), "died")
	require.Positive(t, seen.Load())
	require.NotEmpty(t, w.ownTopics())
	w.replay(opts)
	w.wantView()
	require.Equal(t, uint64(objects*lines), w.count("SELECT count() FROM "+w.cfg.ClickHouse.View+" WHERE srcCity = 'Berlin'"))
	require.Empty(t, w.ownTopics())
	require.True(t, w.replay(opts).Over)

	// One object, by its address, into another table; and all of it once more.
	one := w.options(replay.FromObjects)
	one.Name, one.Into, one.Object = "single", "single", "s3://"+w.cfg.Sources[0].Bucket+"/log-3.json"
	w.replay(one)
	got := w.ids("single")
	require.Len(t, got, lines)
	for id := range got {
		require.True(t, w.want[id])
	}
	opts.Again = true
	require.EqualValues(t, objects*lines, w.replay(opts).Rows)
	w.wantView()
	require.Empty(t, w.ownTopics())

	// The pipeline's own topics have nothing of it.
	ends, err := w.admin.ListEndOffsets(t.Context(), w.cfg.Topics.Names().Raw)
	require.NoError(t, err)
	starts, err := w.admin.ListStartOffsets(t.Context(), w.cfg.Topics.Names().Raw)
	require.NoError(t, err)
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		require.Equal(t, start.Offset, end.Offset)
	})
}

// onSaid runs once when a text is told of.
type onSaid struct {
	text string
	once sync.Once
	run  func()
}

func (o *onSaid) Write(said []byte) (int, error) {
	if bytes.Contains(said, []byte(o.text)) {
		o.once.Do(o.run)
	}
	return len(said), nil
}

// What a transaction holds that is not over everywhere when the fetcher is at
// its end belongs to the lines too.
func TestObjectsWaitForTheLastTransaction(t *testing.T) {
	w := newWorld(t)
	w.bucket(3, 50)
	stop := w.start(config.CommandFetcher, config.CommandEnricher, config.CommandSink)
	table := w.cfg.ClickHouse.Table
	require.Eventually(t, func() bool { return w.count("SELECT uniqExact(id) FROM "+table) == 150 }, patience, 100*time.Millisecond)
	stop()
	for id := range w.ids(table) {
		w.want[id] = true
	}
	late := topics.RawLine{Source: "one", Object: w.object("one", "late"), Line: 1, ReceivedAt: received.UnixMilli(), Bytes: eventLine(1)}
	w.want[identity.RowID(late.Object, 1, 0)] = true

	own := w.cfg.Topics
	own.Prefix += "replay-test-"
	producer, err := kgo.NewClient(kgo.SeedBrokers(w.cfg.Kafka.Brokers...), kgo.TransactionalID(w.cfg.Kafka.Group+"-late"))
	require.NoError(t, err)
	defer producer.Close()
	opts := w.options(replay.FromObjects)
	begun := sync.OnceValue(func() error {
		if err := producer.BeginTransaction(); err != nil {
			return err
		}
		return producer.ProduceSync(t.Context(), late.Record(own.Names().Raw)).FirstErr()
	})
	opts.SplitHook = func(split.Step) error { return begun() }
	said := &onSaid{text: "waiting for the last transaction", run: func() {
		if err := producer.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Error(err)
		}
	}}
	opts.Out = said
	w.replay(opts)
	w.wantView()
}
