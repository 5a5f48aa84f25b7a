package deadletter_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/services/auditstream/deadletter"
	"github.com/auditstream/auditstream/services/auditstream/stack"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/tests/stages"
	"github.com/auditstream/auditstream/topics"
)

const patience = 90 * time.Second

func TestMain(m *testing.M) { servers.Main(m) }

// world is a broker with the topics, a bucket, and a configuration for both.
type world struct {
	t      *testing.T
	cfg    config.Config
	client *kgo.Client
	admin  *kadm.Client
	s3     *s3.Client
}

func newWorld(t *testing.T, brokers []string) *world {
	t.Helper()
	store := servers.S3(t)
	cfg := stages.Config(brokers, servers.Name(t, "letters"))
	cfg.Topics.Objects.Partitions, cfg.Topics.Raw.Partitions, cfg.Topics.Normalized.Partitions, cfg.Topics.DeadLetter.Partitions = 2, 2, 2, 2
	cfg.Fetcher.Backoff = 20 * time.Millisecond
	cfg.Fetcher.Attempts = 2
	cfg.S3 = store.Config("store")
	cfg.Sources = []config.Source{{ID: "known", Workspace: "acme", Bucket: store.Bucket, Prefix: "logs/"}}
	log := slog.New(slog.DiscardHandler)
	require.NoError(t, stack.ApplyTopics(t.Context(), cfg, log))
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	w := &world{t: t, cfg: cfg, client: client, admin: kadm.NewClient(client), s3: store.Client(t)}
	names := w.names()
	for _, topic := range []string{names.Objects, names.Raw, names.Normalized, names.DeadLetter} {
		// Apache Kafka takes a moment to know of a topic everywhere.
		require.Eventually(t, func() bool {
			_, err := kafka.Bounds(t.Context(), w.admin, topic, time.Time{}, time.Time{})
			return err == nil
		}, patience, 50*time.Millisecond)
	}
	return w
}

func (w *world) names() topics.Names { return w.cfg.Topics.Names() }

func (w *world) reader() deadletter.Reader {
	return deadletter.Reader{
		Client: func() ([]kgo.Opt, error) { return kafka.Options(w.cfg.Kafka, slog.New(slog.DiscardHandler), nil) },
		Topics: w.names(),
	}
}

// stage runs one stage until the returned function is called.
func (w *world) stage(which config.Command) (stop func()) {
	w.t.Helper()
	log := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	return stages.Run(w.t, w.cfg, log, nil, which)
}

func (w *world) produce(records ...*kgo.Record) {
	w.t.Helper()
	require.NoError(w.t, w.client.ProduceSync(w.t.Context(), records...).FirstErr())
}

// committed are the records of a topic, read again until there are count.
func (w *world) committed(topic string, count int) (records []*kgo.Record) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		records = nil
		bounds, err := kafka.Bounds(w.t.Context(), w.admin, topic, time.Time{}, time.Time{})
		require.NoError(w.t, err)
		require.NoError(w.t, kafka.Scan(w.t.Context(), []kgo.Opt{kgo.SeedBrokers(w.cfg.Kafka.Brokers...)}, bounds, func(record *kgo.Record) error {
			records = append(records, record)
			return nil
		}))
		return len(records) >= count
	}, patience, 50*time.Millisecond, "%d records in %s", count, topic)
	require.Len(w.t, records, count, topic)
	return records
}

// rows are those in normalized, by id.
func (w *world) rows(count int) map[string]event.Row {
	w.t.Helper()
	rows := make(map[string]event.Row)
	for _, record := range w.committed(w.names().Normalized, count) {
		var row event.Row
		require.NoError(w.t, topics.DecodeNormalized(record.Value, &row))
		rows[row.ID] = row
	}
	require.Len(w.t, rows, count)
	return rows
}

// letters waits for the dead letters that filter chooses.
func (w *world) letters(count int, filter deadletter.Filter) (letters []*deadletter.Letter) {
	w.t.Helper()
	reader := w.reader()
	require.Eventually(w.t, func() bool {
		letters = nil
		require.NoError(w.t, reader.Each(w.t.Context(), filter, func(letter *deadletter.Letter) error {
			letters = append(letters, letter)
			return nil
		}))
		return len(letters) >= count
	}, patience, 50*time.Millisecond, "%d dead letters", count)
	require.Len(w.t, letters, count)
	return letters
}

func (w *world) options() deadletter.Options {
	w.t.Helper()
	sources, err := stack.AuditSources(w.cfg.Sources)
	require.NoError(w.t, err)
	return deadletter.Options{
		Reader: w.reader(), Group: w.cfg.Kafka.Group, LineLimit: int64(w.cfg.Topics.LineLimit), Sources: w.cfg.Sources, Audit: sources,
		Store: func(ctx context.Context) (deadletter.Store, error) {
			return objectstore.New(ctx, w.cfg.S3, objectstore.Options{
				Sources: w.cfg.Sources, StallTimeout: time.Second, Log: slog.New(slog.DiscardHandler),
			})
		},
	}
}

// retry gives what was told of each letter, by what it is about.
func (w *world) retry(filter deadletter.Filter, change func(*deadletter.Options)) (deadletter.Totals, []deadletter.Result, error) {
	w.t.Helper()
	opts := w.options()
	if change != nil {
		change(&opts)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	var results []deadletter.Result
	totals, err := deadletter.Retry(ctx, opts, filter, func(result deadletter.Result) { results = append(results, result) })
	return totals, results, err
}

func (w *world) put(key, content string) string {
	w.t.Helper()
	bucket := w.cfg.Sources[0].Bucket
	out, err := w.s3.PutObject(w.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader([]byte(content))})
	require.NoError(w.t, err)
	return strings.Trim(aws.ToString(out.ETag), `"`)
}

func (w *world) object(key, etag string) topics.Object {
	bucket := w.cfg.Sources[0].Bucket
	return topics.Object{
		ID: identity.ObjectID("store", bucket, key, etag), Source: w.cfg.Sources[0].ID, Endpoint: "store", Bucket: bucket, Key: key,
		ETag: etag, FromLine: 1, Cause: topics.CauseNotified, AnnouncedAt: time.Now().UTC(),
	}
}

func (w *world) announce(objects ...topics.Object) {
	w.t.Helper()
	for i := range objects {
		record, err := objects[i].Record(w.names().Objects)
		require.NoError(w.t, err)
		w.produce(record)
	}
}
