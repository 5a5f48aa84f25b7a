package intake_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

// versioned gives the bucket versions.
func (a *account) versioned(bucket string) {
	a.t.Helper()
	_, err := a.s3.PutBucketVersioning(a.t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &bucket, VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled},
	})
	require.NoError(a.t, err)
}

// version stores a further version of an object.
func (a *account) version(bucket, key, content string) (etag, version string) {
	a.t.Helper()
	out, err := a.s3.PutObject(a.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(content)})
	require.NoError(a.t, err)
	require.NotEmpty(a.t, aws.ToString(out.VersionId))
	return *out.ETag, *out.VersionId
}

// withVersion is a notification with the version that the emulator leaves out of
// its own.
func withVersion(t *testing.T, body, field, version string) string {
	t.Helper()
	told := strings.Replace(body, `"key":`, `"`+field+`":"`+version+`","key":`, 1)
	require.NotEqual(t, body, told)
	require.True(t, json.Valid([]byte(told)))
	return told
}

// gate is a proxy before the emulator at which reads of objects wait.
type gate struct {
	*httptest.Server
	opened  chan struct{}
	open    func()
	waiting atomic.Int64

	mu       sync.Mutex
	versions map[string]bool // that were asked for: key and version
}

func newGate(t *testing.T, target string) *gate {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	g := &gate{opened: make(chan struct{}), versions: make(map[string]bool)}
	g.open = sync.OnceFunc(func() { close(g.opened) })
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if key := strings.SplitN(request.URL.Path, "/", 3); request.Method == http.MethodGet && len(key) == 3 && key[2] != "" {
			g.mu.Lock()
			g.versions[key[2]+" "+request.URL.Query().Get("versionId")] = true
			g.mu.Unlock()
			g.waiting.Add(1)
			select {
			case <-g.opened:
			case <-request.Context().Done():
				return
			}
		}
		proxy.ServeHTTP(w, request)
	}))
	t.Cleanup(g.Close)
	t.Cleanup(g.open)
	return g
}

// An object that is overwritten between its notification and its fetch is read
// by the version that the notification names, in whichever form it told so, also
// when it is deleted meanwhile; both versions are rows, with ids of their own. A
// notification that names none can have only what is there now. A version that
// was removed is a dead letter.
func TestOverwrittenBetweenNotificationAndFetch(t *testing.T) {
	moto := servers.Moto(t)
	owner := newAccount(t, moto, servers.MotoAccount, "eu-central-1")
	queue, queueARN := owner.queue(nil)
	bucket := owner.bucket("versions")
	owner.versioned(bucket)
	topic := owner.topicInto(queueARN, false)
	published := func(body string) {
		t.Helper()
		_, err := owner.sns.Publish(t.Context(), &sns.PublishInput{TopicArn: &topic, Message: &body})
		require.NoError(t, err)
	}
	direct := func(key, etag, version string, size int) {
		t.Helper()
		owner.send(queue, withVersion(t, s3Event("aws:s3", "ObjectCreated:Put", bucket, key, etag, size), "versionId", version))
	}
	tell := map[string]func(key, etag, version string, size int){
		"direct": direct, "deleted": direct, "removed": direct, "put/again": direct,
		"wrapped": func(key, etag, version string, size int) {
			published(withVersion(t, s3Event("aws:s3", "ObjectCreated:Put", bucket, key, etag, size), "versionId", version))
		},
		"bridged": func(key, etag, version string, size int) {
			owner.send(queue, withVersion(t, bridgeEvent(bucket, key, strings.Trim(etag, `"`), size), "version-id", version))
		},
		"unnamed": func(key, etag, _ string, size int) {
			owner.send(queue, s3Event("aws:s3", "ObjectCreated:Put", bucket, key, etag, size))
		},
	}
	rows, asked := make(map[string]string), make(map[string]bool)
	firsts, ids := make(map[string]string), make(map[string]bool)
	put := func(key, content string, read bool) {
		t.Helper()
		etag, version := owner.version(bucket, key, content)
		id := identity.ObjectID("aws", bucket, key, etag)
		ids[id] = true
		if firsts[key] == "" {
			firsts[key] = version
		}
		if read {
			lines(rows, "a", id, content)
		}
		if key == "unnamed" {
			version, asked[key+" "] = "", true
		} else {
			asked[key+" "+version] = true
		}
		tell[key](key, etag, version, len(content))
	}

	gate := newGate(t, moto.Endpoint)
	cfg := connection(moto)
	cfg.Endpoint, cfg.STSEndpoint = gate.URL, moto.Endpoint
	p := newPipeline(t, cfg, source("a", bucket, "", queue))
	p.sources[0].Queue.Endpoint, p.tries = moto.Endpoint, 3
	for key := range tell {
		put(key, "the first of "+key+"\nand its second line\n", key != "unnamed" && key != "removed")
	}
	registry, _ := p.start("one")
	announced := func(n int) func() bool {
		return func() bool {
			return metric(t, registry, "auditstream_fetcher_queue_messages_total", "announced") >= float64(n) && gate.waiting.Load() > 0
		}
	}
	require.Eventually(t, announced(len(tell)), patience, 20*time.Millisecond)

	// All is announced, nothing was read. Now everything becomes something else.
	for key := range tell {
		put(key, "the other of "+key+"\nlonger than the first one was\nby a line\n", true)
	}
	_, err := owner.s3.DeleteObject(t.Context(), deletion(bucket, "deleted")) // leaves a marker; both versions are there
	require.NoError(t, err)
	_, err = owner.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("removed"), VersionId: aws.String(firsts["removed"])})
	require.NoError(t, err)
	owner.send(queue, s3Event("aws:s3", "ObjectRemoved:DeleteMarkerCreated", bucket, "deleted", "", 0))
	require.Eventually(t, announced(2*len(tell)), patience, 20*time.Millisecond)
	require.Len(t, p.announcements(2*len(tell)), 2*len(tell), "each version is an object of its own")
	gate.open()

	p.requireRows(rows)
	letters := p.deadLetters(2)
	require.Len(t, letters, 2)
	for reason, key := range map[topics.Reason]string{topics.ReasonObjectChanged: "unnamed", topics.ReasonObjectMissing: "removed"} {
		require.Len(t, letters[reason], 1, reason)
		object, err := topics.DecodeObject([]byte(letters[reason][0]))
		require.NoError(t, err)
		require.Equal(t, key, object.Key)
		require.True(t, ids[object.ID])
	}
	require.Len(t, ids, 2*len(tell))
	gate.mu.Lock()
	defer gate.mu.Unlock()
	require.Equal(t, asked, gate.versions, "what is named is read by its version")
}
