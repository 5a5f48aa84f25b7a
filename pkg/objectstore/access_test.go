package objectstore_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/tests/servers"
)

// cloud is a proxy before a server that stands for all regions, and answers as
// AWS does when a bucket is asked for in another region than its own.
type cloud struct {
	*httptest.Server
	mu       sync.Mutex
	seen     []*http.Request
	refusals int
}

// region of the signature: .../20260203/<region>/s3/aws4_request
func signedFor(r *http.Request) string {
	parts := strings.Split(r.Header.Get("Authorization"), "/")
	if len(parts) < 4 {
		return ""
	}
	return parts[2]
}

// newCloud answers with status, and code as the body where a body may be, when
// a request is signed for another region.
func newCloud(t *testing.T, server *servers.S3Server, status int, code string, tellRegion bool) *cloud {
	t.Helper()
	to, err := url.Parse(server.Endpoint)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // the signature covers it
	}}
	c := &cloud{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.seen = append(c.seen, r)
		elsewhere := signedFor(r) != server.Region
		if elsewhere {
			c.refusals++
		}
		c.mu.Unlock()
		if !elsewhere {
			proxy.ServeHTTP(w, r)
			return
		}
		if tellRegion || r.Method == http.MethodHead {
			w.Header().Set("X-Amz-Bucket-Region", server.Region)
		}
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>m</Message></Error>", code)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func TestABucketIsFoundInItsRegion(t *testing.T) {
	for _, answer := range []struct {
		status int
		code   string
		tells  bool
	}{
		{http.StatusMovedPermanently, "PermanentRedirect", true},
		{http.StatusMovedPermanently, "PermanentRedirect", false},
		{http.StatusBadRequest, "AuthorizationHeaderMalformed", true},
		{http.StatusBadRequest, "IllegalLocationConstraintException", false},
	} {
		t.Run(fmt.Sprint(answer), func(t *testing.T) {
			server := servers.S3(t)
			key, content := "logs/a", "content"
			_, err := server.Client(t).PutObject(t.Context(), &s3.PutObjectInput{Bucket: &server.Bucket, Key: &key, Body: strings.NewReader(content)})
			require.NoError(t, err)
			cloud := newCloud(t, server, answer.status, answer.code, answer.tells)
			cfg := config.S3{Endpoint: cloud.URL, PathStyle: true, Region: "ap-south-2",
				AccessKeyID: server.AccessKeyID, SecretAccessKey: config.Secret(server.SecretAccessKey)}
			open := func(t *testing.T) *objectstore.Store {
				store, err := objectstore.New(t.Context(), cfg, objectstore.Options{})
				require.NoError(t, err)
				return store
			}

			store := open(t)
			body, err := store.Open(t.Context(), objectstore.Ref{Bucket: server.Bucket, Key: key}, 2)
			require.NoError(t, err)
			text, err := io.ReadAll(body)
			require.NoError(t, err)
			require.Equal(t, content[2:], string(text))
			require.NoError(t, body.Close())
			require.Positive(t, cloud.refusals)

			// It is known from then on.
			cloud.refusals = 0
			require.NoError(t, store.Probe(t.Context(), server.Bucket, ""))
			region, err := store.Region(t.Context(), server.Bucket, "")
			require.NoError(t, err)
			require.Equal(t, server.Region, region)
			require.Zero(t, cloud.refusals)

			// The others find it as well.
			for name, ask := range map[string]func(*objectstore.Store) error{
				"list": func(store *objectstore.Store) error {
					return store.List(t.Context(), server.Bucket, "logs/", "", func(objectstore.Listed) error { return nil })
				},
				"stat": func(store *objectstore.Store) error {
					_, err := store.Stat(t.Context(), server.Bucket, key, "")
					return err
				},
				"touch": func(store *objectstore.Store) error {
					_, err := store.Touch(t.Context(), server.Bucket, key, "")
					return err
				},
				"region": func(store *objectstore.Store) error {
					_, err := store.Region(t.Context(), server.Bucket, key)
					return err
				},
			} {
				require.NoError(t, ask(open(t)), name)
			}
		})
	}
}

func TestWhoPaysAndInWhichRegion(t *testing.T) {
	server := servers.S3(t)
	key := "paid/a"
	_, err := server.Client(t).PutObject(t.Context(), &s3.PutObjectInput{Bucket: &server.Bucket, Key: &key, Body: strings.NewReader("content")})
	require.NoError(t, err)
	cloud := newCloud(t, server, http.StatusMovedPermanently, "PermanentRedirect", true)
	store, err := objectstore.New(t.Context(), config.S3{Endpoint: cloud.URL, PathStyle: true, Region: "ap-south-2",
		AccessKeyID: server.AccessKeyID, SecretAccessKey: config.Secret(server.SecretAccessKey)},
		objectstore.Options{Sources: []config.Source{
			{ID: "a", Bucket: server.Bucket, Prefix: "paid/", RequesterPays: true, Region: server.Region},
			{ID: "b", Bucket: server.Bucket, Prefix: "free/", Region: server.Region},
		}})
	require.NoError(t, err)
	require.NoError(t, store.List(t.Context(), server.Bucket, "paid/", "", func(objectstore.Listed) error { return nil }))
	body, err := store.Open(t.Context(), objectstore.Ref{Bucket: server.Bucket, Key: key}, 0)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	_, err = store.Stat(t.Context(), server.Bucket, key, "")
	require.NoError(t, err)
	require.Len(t, cloud.seen, 3)
	for _, request := range cloud.seen {
		require.Equal(t, "requester", request.Header.Get("X-Amz-Request-Payer"), request.URL)
	}
	require.Zero(t, cloud.refusals) // the region was given
	require.NoError(t, store.Probe(t.Context(), server.Bucket, "free/"))
	require.Empty(t, cloud.seen[3].Header.Get("X-Amz-Request-Payer"))
}

// That a role is refused says nothing about the objects: they would become dead
// letters for it.
func TestARefusedRoleIsNotAForbiddenObject(t *testing.T) {
	server := servers.S3(t)
	asked := 0
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>")
	}))
	defer sts.Close()
	store, err := objectstore.New(t.Context(), config.S3{Endpoint: server.Endpoint, STSEndpoint: sts.URL, PathStyle: true, Region: server.Region,
		AccessKeyID: server.AccessKeyID, SecretAccessKey: config.Secret(server.SecretAccessKey)},
		objectstore.Options{Sources: []config.Source{{ID: "a", Bucket: server.Bucket, Prefix: "a/", Role: config.Role{ARN: "arn:aws:iam::111122223333:role/a"}}}})
	require.NoError(t, err)
	_, err = store.Open(t.Context(), objectstore.Ref{Bucket: server.Bucket, Key: "a/b"}, 0)
	require.ErrorIs(t, err, objectstore.ErrUnavailable)
	require.NotErrorIs(t, err, objectstore.ErrForbidden)
	require.ErrorContains(t, err, "not you")
	require.Positive(t, asked)
}
