package exactlyonce

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/auditstream/auditstream/pkg/identity"
	// The tests run the binary; this makes their cached results those of its code.
	_ "github.com/auditstream/auditstream/services/auditstream/stack"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

func TestMain(m *testing.M) { servers.Main(m) }

func command(t *testing.T, binary string, arguments ...string) *exec.Cmd {
	return exec.CommandContext(t.Context(), binary, arguments...)
}

// killsOfEach is how often each stage and the ClickHouse engine die.
const killsOfEach = 3

// TestKills kills every stage and the ClickHouse engine in the middle of its
// work, three times each, while objects keep coming, and then compares sets:
// each line is one row or one dead letter.
func TestKills(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, brokers []string) {
		engine := servers.OwnClickHouse(t)
		p := newPipeline(t, brokers, engine)
		feed := newFeeder(t, p)

		stages := map[string]*stageProcess{}
		for _, stage := range []string{"fetcher", "enricher", "sink"} {
			stages[stage] = startStage(t, p.binary, p.config, stage, stage+"-1")
		}
		for _, process := range stages {
			process.waitReady(t)
		}

		feeding, stopFeeding := context.WithCancel(t.Context())
		defer stopFeeding()
		var feeder, killers errgroup.Group
		feeder.Go(func() error { return feed.run(feeding) })

		type victim struct {
			name     string
			progress func() int64 // of what the victim itself writes
			kill     func()
		}
		victims := []victim{
			{"fetcher", func() int64 { return p.produced(t, topics.Raw) }, nil},
			{"enricher", func() int64 { return p.produced(t, topics.Normalized) }, nil},
			{"sink", func() int64 { return p.rows(t) }, nil},
			{"clickhouse", func() int64 { return p.rows(t) }, func() { require.NoError(t, engine.Engine.Kill()) }},
		}
		for _, v := range victims {
			if v.kill == nil {
				process := stages[v.name]
				v.kill = func() {
					process.kill(t)
					process.start(t, v.name+"-1")
				}
			}
			killers.Go(func() error {
				for kill := range killsOfEach {
					// It has come some way since it was last killed: it is at work,
					// and as the feeder keeps a backlog it is in the middle of it.
					start := int64(-1)
					eventually(t, 2*time.Minute, fmt.Sprintf("%s works again after kill %d", v.name, kill), func() bool {
						now := v.progress()
						if start < 0 {
							start = now
						}
						return start >= 0 && now >= start+700
					})
					v.kill()
					t.Logf("killed %s, %d of %d", v.name, kill+1, killsOfEach)
				}
				return nil
			})
		}
		require.NoError(t, killers.Wait())
		stopFeeding()
		require.NoError(t, feeder.Wait())

		feed.verify(t, p)
		for name, process := range stages {
			require.NoError(t, process.terminate(t), "%s ends with exit code 0 on SIGTERM", name)
		}
	})
}

// feeder puts objects into S3 and keeps account of every line.
type feeder struct {
	p       *pipeline
	client  *s3.Client
	backlog func() int64

	mu   sync.Mutex
	rows map[string]bool // ids that must become rows
	bad  map[string]bool // ids that must become dead letters
}

// linesAhead is how many lines the feeder keeps between S3 and ClickHouse, so
// that a stage always has work when it is killed.
const linesAhead = 20_000

func newFeeder(t *testing.T, p *pipeline) *feeder {
	return &feeder{p: p, client: p.s3.Client(t), rows: map[string]bool{}, bad: map[string]bool{}, backlog: func() int64 { return p.rows(t) }}
}

func (f *feeder) run(ctx context.Context) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for object := 0; ; object++ {
		lines := 400
		if object%10 == 5 {
			lines = 4_000 // several slices
		}
		if err := f.put(context.WithoutCancel(ctx), object, lines); err != nil {
			return err
		}
		for f.ahead() > linesAhead {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return nil
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (f *feeder) ahead() int64 {
	written := f.backlog()
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.rows)) - max(written, 0)
}

func (f *feeder) put(ctx context.Context, object, lines int) error {
	var plain bytes.Buffer
	badLines := map[int]bool{}
	for line := 1; line <= lines; line++ {
		if line%250 == 0 {
			badLines[line] = true
			fmt.Fprintf(&plain, "not an event %d of %d\n", line, object)
			continue
		}
		fmt.Fprintf(&plain, `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"%d-%d","stage":"ResponseComplete",`+
			`"requestURI":"/api/v1/namespaces/web/pods/p-%d","verb":"get","user":{"username":"jane"},"sourceIPs":["203.0.113.%d"],`+
			`"objectRef":{"resource":"pods","namespace":"web","name":"p-%d","apiVersion":"v1"},"responseStatus":{"code":200},`+
			`"requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z","stageTimestamp":"2026-01-01T00:00:00.000001Z"}`+"\n",
			object, line, line, line%250, line)
	}
	body, key := plain.Bytes(), fmt.Sprintf("2026/01/%05d.ndjson", object)
	if object%2 == 0 {
		var packed bytes.Buffer
		writer := gzip.NewWriter(&packed)
		if _, err := writer.Write(body); err != nil {
			return err
		}
		if err := writer.Close(); err != nil {
			return err
		}
		body, key = packed.Bytes(), key+".gz"
	}
	put, err := f.client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(f.p.s3.Bucket), Key: aws.String(key), Body: bytes.NewReader(body)})
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	id := identity.ObjectID("test", f.p.s3.Bucket, key, aws.ToString(put.ETag))
	f.mu.Lock()
	defer f.mu.Unlock()
	for line := 1; line <= lines; line++ {
		if badLines[line] {
			f.bad[identity.RowID(id, int64(line), 0)] = true
		} else {
			f.rows[identity.RowID(id, int64(line), 0)] = true
		}
	}
	return nil
}

// verify waits until everything has come through and compares the sets.
func (f *feeder) verify(t *testing.T, p *pipeline) {
	t.Helper()
	eventually(t, 3*time.Minute, "every line has come through", func() bool {
		return p.rows(t) >= int64(len(f.rows)) && p.idle(t)
	})
	compareSets(t, "rows", f.rows, p.rowIDs(t))
	compareSets(t, "dead letters", f.bad, p.deadLetterIDs(t))
	// The pipeline's own account of it: complete, and nothing but what was put in.
	var report struct {
		Totals struct{ Lines, LinesWithRows, LinesWithDeadLetters, Rows int }
	}
	require.NoError(t, json.Unmarshal([]byte(p.run(t, "verify", "--bucket", "--json")), &report))
	require.Equal(t, len(f.rows)+len(f.bad), report.Totals.Lines)
	require.Equal(t, len(f.rows), report.Totals.LinesWithRows)
	require.Equal(t, len(f.bad), report.Totals.LinesWithDeadLetters)
	require.Equal(t, len(f.rows), report.Totals.Rows)
	t.Logf("%d lines are rows, %d are dead letters; lost 0, doubled 0", len(f.rows), len(f.bad))
}

func compareSets(t *testing.T, what string, want map[string]bool, have map[string]uint64) {
	t.Helper()
	var lost, doubled, surplus []string
	for id := range want {
		if have[id] == 0 {
			lost = append(lost, id)
		}
	}
	for id, count := range have {
		if !want[id] {
			surplus = append(surplus, id)
		}
		if count > 1 {
			doubled = append(doubled, id)
		}
	}
	if len(lost)+len(doubled)+len(surplus) > 0 {
		t.Fatalf("%s: of %d lost %d %.3q, doubled %d %.3q, surplus %d %.3q", what, len(want),
			len(lost), first(lost), len(doubled), first(doubled), len(surplus), first(surplus))
	}
}

func first(ids []string) []string { return ids[:min(len(ids), 3)] }
