package objectstore_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/tests/servers"
)

// meddler stands between us and an S3 server. It breaks the first answer off,
// and has its way with the next ones.
type meddler struct {
	proxy   *httputil.ReverseProxy
	answers atomic.Int64
	meddled atomic.Int64
	change  func(answer int64, r *http.Response) bool
}

func newMeddler(t *testing.T, endpoint string, change func(answer int64, r *http.Response) bool) (*meddler, string) {
	t.Helper()
	to, err := url.Parse(endpoint)
	require.NoError(t, err)
	m := &meddler{change: change}
	m.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // the signature covers it
		},
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Method != http.MethodGet {
				return nil
			}
			answer := m.answers.Add(1)
			if answer == 1 {
				r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, 50_000), broken{}))
			}
			if change(answer, r) {
				m.meddled.Add(1)
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(m.proxy)
	t.Cleanup(server.Close)
	return m, server.URL
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// What goes on after a break is the rest of what was begun, from the very byte
// that was asked for, and the object is as long as it was: also when nobody had
// said before how long it is.
func TestAnswersAfterABreakAreChecked(t *testing.T) {
	server := servers.S3(t)
	content := make([]byte, 0, 200_000)
	for i := 0; len(content) < cap(content)-20; i++ {
		content = fmt.Appendf(content, "line %d\n", i)
	}
	key := "object"
	_, err := server.Client(t).PutObject(t.Context(), &s3.PutObjectInput{Bucket: &server.Bucket, Key: &key, Body: bytes.NewReader(content)})
	require.NoError(t, err)

	second := func(change func(r *http.Response)) func(int64, *http.Response) bool {
		return func(answer int64, r *http.Response) bool {
			if answer == 2 {
				change(r)
			}
			return answer == 2
		}
	}
	for _, test := range []struct {
		name    string
		change  func(int64, *http.Response) bool
		meddled int64
	}{
		{"a break", func(int64, *http.Response) bool { return false }, 0},
		{"another start", second(func(r *http.Response) { //nolint:bodyclose // the proxy closes it
			r.Header.Set("Content-Range", fmt.Sprintf("bytes 49999-%d/%d", len(content)-1, len(content)))
		}), 1},
		{"another size", second(func(r *http.Response) { //nolint:bodyclose // the proxy closes it
			r.Header.Set("Content-Range", "bytes 50000-50999/51000")
			r.Header.Set("Content-Length", "1000")
			r.ContentLength, r.Body = 1000, io.NopCloser(io.LimitReader(r.Body, 1000))
		}), 1},
		{"another size, and none named", second(func(r *http.Response) { //nolint:bodyclose // the proxy closes it
			r.Header.Set("Content-Range", "bytes 50000-50999/*")
			r.Header.Set("Content-Length", "1000")
			r.ContentLength, r.Body = 1000, io.NopCloser(io.LimitReader(r.Body, 1000))
		}), 1},
		{"no range at all", second(func(r *http.Response) { r.Header.Set("Content-Range", "whatever") }), 1}, //nolint:bodyclose // as above
		// Not against the rules: the rest comes with one more request.
		{"a part of the rest", second(func(r *http.Response) { //nolint:bodyclose // the proxy closes it
			r.Header.Set("Content-Range", fmt.Sprintf("bytes 50000-50999/%d", len(content)))
			r.Header.Set("Content-Length", "1000")
			r.ContentLength, r.Body = 1000, io.NopCloser(io.LimitReader(r.Body, 1000))
		}), 1},
		{"a first answer of no length", func(answer int64, r *http.Response) bool {
			if answer == 1 {
				r.Header.Del("Content-Length")
				r.ContentLength = -1
			}
			return answer == 1
		}, 1},
		{"later answers of another time", func(answer int64, r *http.Response) bool {
			if answer > 1 {
				r.Header.Set("Last-Modified", time.Unix(1_700_000_000, 0).UTC().Format(http.TimeFormat))
			}
			return answer > 1
		}, 1},
	} {
		for _, size := range []int64{0, int64(len(content))} {
			t.Run(fmt.Sprintf("%s, size %d", test.name, size), func(t *testing.T) {
				m, endpoint := newMeddler(t, server.Endpoint, test.change)
				store, err := objectstore.New(t.Context(), config.S3{
					Endpoint: endpoint, PathStyle: true, Region: server.Region,
					AccessKeyID: server.AccessKeyID, SecretAccessKey: config.Secret(server.SecretAccessKey),
				}, objectstore.Options{StallTimeout: 2 * time.Second})
				require.NoError(t, err)
				body, err := store.Open(t.Context(), objectstore.Ref{Bucket: server.Bucket, Key: key, Size: size}, 0)
				require.NoError(t, err)
				defer body.Close()
				modified := body.LastModified
				have, err := io.ReadAll(body)
				require.NoError(t, err)
				require.True(t, bytes.Equal(content, have), "%d bytes of %d", len(have), len(content))
				require.EqualValues(t, len(content), body.Size)
				require.Equal(t, modified, body.LastModified)
				require.Equal(t, test.meddled, m.meddled.Load())
				require.Greater(t, m.answers.Load(), int64(1))
			})
		}
	}
}

// Of an object with versions the one that is named is read, from its first byte
// to its last: what it was overwritten with is another.
func TestTheNamedVersionIsRead(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	old := &flaky{content: content, step: 30_000}
	old.etag.Store("old")
	current := &flaky{content: []byte("what came after it")}
	current.etag.Store("new")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("versionId") == "v1" {
			old.ServeHTTP(w, r)
			return
		}
		current.ServeHTTP(w, r)
	}))
	defer server.Close()
	store := connect(t, server.URL, objectstore.Options{StallTimeout: time.Second})
	ref := objectstore.Ref{Bucket: "b", Key: "k", ETag: "old", Version: "v1"}
	body, err := store.Open(t.Context(), ref, 0)
	require.NoError(t, err)
	defer body.Close()
	have, err := io.ReadAll(body)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, have))
	require.Greater(t, old.requests.Load(), int64(1))
	require.Zero(t, current.requests.Load())

	ref.Version = ""
	_, err = store.Open(t.Context(), ref, 0)
	require.ErrorIs(t, err, objectstore.ErrChanged)
}
