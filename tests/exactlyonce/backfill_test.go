package exactlyonce

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

// backfillVariable names how many objects there are; a figure for people with
// some minutes is 100000.
const backfillVariable = "AUDITSTREAM_TEST_BACKFILL_OBJECTS"

const (
	backfillObjects = 3000
	linesEach       = 2
)

// TestBackfillInterruptedTwice announces what a bucket holds with the command as
// a process: told to stop in the middle, run again and killed in the middle, run
// to its end, and run once more as a whole. All stages run meanwhile. Each line
// of each object is one row.
func TestBackfillInterruptedTwice(t *testing.T) {
	objects := backfillObjects
	if text := os.Getenv(backfillVariable); text != "" {
		var err error
		objects, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	p := newPipeline(t, servers.Kafka(t), servers.ClickHouse(t))
	settings := strings.NewReplacer(
		"listing: {enabled: true, interval: 500ms}", "listing: {enabled: false}",
		"objectsPerTransaction: 8", "objectsPerTransaction: 200",
		"recordsPerTransaction: 500", "recordsPerTransaction: 5000",
		"batchRows: 500", "batchRows: 5000",
		// A page of a large folder may take its time.
		"stallTimeout: 2s", "stallTimeout: 20s", "transactionTimeout: 10s", "transactionTimeout: 30s",
	).Replace(p.yaml())
	require.NoError(t, os.WriteFile(p.config, []byte(settings), 0o600))
	began := time.Now()
	want := fillBucket(t, p, objects)
	t.Logf("%d objects put in %s", objects, time.Since(began).Round(time.Second))

	for _, stage := range []string{"fetcher", "enricher", "sink"} {
		startStage(t, p.binary, p.config, stage, stage+"-1").waitReady(t)
	}
	began = time.Now()
	gate := newGate(t, p.s3.Endpoint)
	progress := filepath.Join(t.TempDir(), "progress.json")
	gate.open()
	counted := command(t, p.binary, "backfill", "--source", "cluster-1", "--dry-run", "--config", p.config)
	counted.Env = append(os.Environ(), "AUDITSTREAM_S3_ENDPOINT="+gate.URL)
	output, err := counted.CombinedOutput()
	require.NoError(t, err, string(output))
	require.Contains(t, string(output), fmt.Sprintf("to announce %s ", digits.Group(objects)))
	require.Zero(t, announcedBy(t, p))
	pages := gate.through()
	t.Logf("a whole listing has %d pages", pages)

	interrupted := gate.backfill(t, p, progress, pages/3)
	require.NoError(t, interrupted.Process.Signal(syscall.SIGINT))
	require.ErrorContains(t, interrupted.Wait(), "exit status 1")
	require.Contains(t, interrupted.Stderr.(*bytes.Buffer).String(), "run the same again to go on")
	require.FileExists(t, progress)
	first := announcedBy(t, p)
	t.Logf("told to stop after %d announcements", first)
	require.Positive(t, first)
	require.Less(t, first, int64(objects))

	killed := gate.backfill(t, p, progress, pages/3)
	require.NoError(t, killed.Process.Kill())
	require.ErrorContains(t, killed.Wait(), "killed")
	require.FileExists(t, progress)
	second := announcedBy(t, p)
	t.Logf("killed after %d announcements", second)
	require.Greater(t, second, first)
	require.Less(t, second, int64(objects))

	// What was fetched meanwhile may be known to the ledger already.
	require.Contains(t, p.runAfterAKill(t, "backfill", "--source", "cluster-1", "--progress", progress), fmt.Sprintf("\nlisted %s, ", digits.Group(objects)))
	require.NoFileExists(t, progress)
	t.Logf("at the end after %d announcements, %s after the first began", announcedBy(t, p), time.Since(began).Round(time.Second))
	p.run(t, "backfill", "--source", "cluster-1", "--progress", progress, "--again") // overlaps with all of it

	deadline := max(3*time.Minute, time.Duration(objects)*10*time.Millisecond)
	eventually(t, deadline, "every line has come through", func() bool { return p.rows(t) >= int64(len(want)) && p.idle(t) })
	compareSets(t, "rows", want, p.rowIDs(t))
	require.Empty(t, p.deadLetterIDs(t))

	// The ledger knows all of it.
	announced := announcedBy(t, p)
	require.GreaterOrEqual(t, announced, int64(2*objects))
	eventually(t, time.Minute, "the ledger has every object", func() bool {
		return strings.Contains(p.run(t, "backfill", "--source", "cluster-1", "--dry-run"), fmt.Sprintf("to announce 0 (0.0 MB), complete already %s,", digits.Group(objects)))
	})
	p.run(t, "backfill", "--source", "cluster-1", "--progress", progress)
	require.Equal(t, announced, announcedBy(t, p))
	t.Logf("%d lines of %d objects are rows, each once, %s after the first backfill began", len(want), objects, time.Since(began).Round(time.Second))
}

// fillBucket puts small objects into folders and gives the ids of their lines.
func fillBucket(t *testing.T, p *pipeline, objects int) map[string]bool {
	t.Helper()
	client := p.s3.Client(t)
	want := make(map[string]bool, objects*linesEach)
	var mu sync.Mutex
	var next atomic.Int64
	var putting errgroup.Group
	for range 8 {
		putting.Go(func() error {
			for i := int(next.Add(1)) - 1; i < objects; i = int(next.Add(1)) - 1 {
				key := fmt.Sprintf("2026/%02d/%06d.log", i%12+1, i)
				var body bytes.Buffer
				for line := range linesEach {
					fmt.Fprintf(&body, `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"%d-%d","stage":"ResponseComplete",`+
						`"requestURI":"/api/v1/pods","verb":"list","user":{"username":"jane"},"responseStatus":{"code":200},`+
						`"requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z","stageTimestamp":"2026-01-01T00:00:00.000001Z"}`+"\n", i, line)
				}
				put, err := client.PutObject(context.WithoutCancel(t.Context()), &s3.PutObjectInput{
					Bucket: aws.String(p.s3.Bucket), Key: aws.String(key), Body: bytes.NewReader(body.Bytes()),
				})
				if err != nil {
					return fmt.Errorf("put %s: %w", key, err)
				}
				id := identity.ObjectID("test", p.s3.Bucket, key, aws.ToString(put.ETag))
				mu.Lock()
				for line := range linesEach {
					want[identity.RowID(id, int64(line+1), 0)] = true
				}
				mu.Unlock()
			}
			return nil
		})
	}
	require.NoError(t, putting.Wait())
	return want
}

// gate is a proxy before the object store that lets a number of pages of
// listings through, and holds the others.
type gate struct {
	*httptest.Server
	pages atomic.Int64 // still let through
	held  atomic.Int64
}

func newGate(t *testing.T, target string) *gate {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	g := &gate{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // the signature covers it
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // of clients that were killed
	}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if query.Get("list-type") == "2" && query.Get("delimiter") == "" && g.pages.Add(-1) < 0 {
			g.held.Add(1)
			<-r.Context().Done() // until the process has gone
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(g.Close)
	return g
}

// manyPages are more than there are.
const manyPages = 1 << 40

func (g *gate) open() { g.pages.Store(manyPages) }

// through is how many pages were let through since open.
func (g *gate) through() int64 { return manyPages - g.pages.Load() }

// backfill starts the command behind the gate and waits until it is in the
// middle: what it could list is announced, and it waits for more.
func (g *gate) backfill(t *testing.T, p *pipeline, progress string, pages int64) *exec.Cmd {
	t.Helper()
	g.pages.Store(pages)
	before, held := announcedBy(t, p), g.held.Load()
	command := command(t, p.binary, "backfill", "--source", "cluster-1", "--progress", progress, "--config", p.config)
	command.Env = append(os.Environ(), "AUDITSTREAM_S3_ENDPOINT="+g.URL)
	command.Stderr = new(bytes.Buffer)
	require.NoError(t, command.Start())
	t.Cleanup(func() { // when the test has failed
		if _ = command.Process.Kill(); command.Wait() == nil || t.Failed() {
			t.Logf("a backfill said:\n%s", command.Stderr)
		}
	})
	eventually(t, time.Minute, "the backfill is in the middle", func() bool {
		return g.held.Load() > held && announcedBy(t, p) > before
	})
	return command
}

// announcedBy is how many announcements of backfills are in the topic objects.
func announcedBy(t *testing.T, p *pipeline) int64 {
	t.Helper()
	count := int64(0)
	p.read(t, topics.Objects, func(r *kgo.Record) {
		if object, err := topics.DecodeObject(r.Value); err == nil && object.Cause == topics.CauseBackfill {
			count++
		}
	})
	return count
}
