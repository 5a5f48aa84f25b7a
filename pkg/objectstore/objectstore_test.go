package objectstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/tests/servers"
)

func TestMain(m *testing.M) { servers.Main(m) }

func connect(t *testing.T, endpoint string, opts objectstore.Options) *objectstore.Store {
	t.Helper()
	store, err := objectstore.New(t.Context(), config.S3{
		Endpoint: endpoint, PathStyle: true, Region: "us-east-1", AccessKeyID: "id", SecretAccessKey: "secret",
	}, opts)
	require.NoError(t, err)
	return store
}

func embeddedStore(t *testing.T) (*objectstore.Store, *servers.S3Server, *s3.Client) {
	t.Helper()
	server := servers.S3(t)
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte(server.SecretAccessKey+"\n"), 0o600))
	store, err := objectstore.New(t.Context(), config.S3{
		Endpoint: server.Endpoint, PathStyle: true, Region: server.Region,
		AccessKeyID: server.AccessKeyID, SecretAccessKeyFile: secret,
	}, objectstore.Options{})
	require.NoError(t, err)
	return store, server, server.Client(t)
}

func TestListAndOpen(t *testing.T) {
	store, server, client := embeddedStore(t)
	put := func(key, content string) string {
		out, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &server.Bucket, Key: &key, Body: strings.NewReader(content)})
		require.NoError(t, err)
		return aws.ToString(out.ETag)
	}
	keys := []string{"a/1", "a/2 + %2F ünï", "a/3&<x>", "b/1"}
	for _, key := range keys {
		put(key, key)
	}
	for i := range 1005 { // more than a page
		put(fmt.Sprintf("many/%04d", i), "x")
	}
	list := func(prefix, after string) (got []string) {
		require.NoError(t, store.List(t.Context(), server.Bucket, prefix, after, func(l objectstore.Listed) error {
			require.NotContains(t, l.ETag, `"`)
			require.NotZero(t, l.Size)
			require.False(t, l.LastModified.IsZero())
			got = append(got, l.Key)
			return nil
		}))
		return got
	}
	require.Equal(t, keys[:3], list("a/", ""))
	require.Equal(t, keys[1:3], list("a/", "a/1"))
	require.Len(t, list("many/", ""), 1005)
	require.Empty(t, list("none/", ""))
	stop := errors.New("enough")
	require.ErrorIs(t, store.List(t.Context(), server.Bucket, "", "", func(objectstore.Listed) error { return stop }), stop)
	require.ErrorIs(t, store.List(t.Context(), "no-such-bucket-here", "", "", nil), objectstore.ErrMissing)
	require.NoError(t, store.Probe(t.Context(), server.Bucket, ""))

	etag := put("a/1", "0123456789")
	ref := objectstore.Ref{Bucket: server.Bucket, Key: "a/1", ETag: etag}
	for from, want := range map[int64]string{0: "0123456789", 4: "456789", 10: ""} {
		body, err := store.Open(t.Context(), ref, from)
		require.NoError(t, err, "from %d", from)
		got, err := io.ReadAll(body)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		require.EqualValues(t, 10, body.Size)
		require.WithinDuration(t, time.Now(), body.LastModified, time.Minute)
		require.Equal(t, strings.Trim(etag, `"`), body.ETag)
		require.NoError(t, body.Close())
	}
	_, err := store.Open(t.Context(), ref, 11)
	require.ErrorIs(t, err, objectstore.ErrChanged)
	put("a/1", "another")
	_, err = store.Open(t.Context(), ref, 0)
	require.ErrorIs(t, err, objectstore.ErrChanged)
	_, err = store.Open(t.Context(), objectstore.Ref{Bucket: server.Bucket, Key: "no"}, 0)
	require.ErrorIs(t, err, objectstore.ErrMissing)
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for _, test := range []struct {
		status int
		code   string
		want   error
	}{
		{404, "NoSuchKey", objectstore.ErrMissing},
		{404, "NoSuchVersion", objectstore.ErrMissing},
		{403, "AccessDenied", objectstore.ErrForbidden},
		{403, "InvalidObjectState", objectstore.ErrArchived},
		{403, "InvalidAccessKeyId", objectstore.ErrUnavailable},
		{400, "ExpiredToken", objectstore.ErrUnavailable},
		{412, "PreconditionFailed", objectstore.ErrChanged},
		{503, "SlowDown", objectstore.ErrUnavailable},
		{500, "InternalError", objectstore.ErrUnavailable},
		{502, "", objectstore.ErrUnavailable},
	} {
		t.Run(strconv.Itoa(test.status)+test.code, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>m</Message></Error>", test.code)
			}))
			defer server.Close()
			_, err := connect(t, server.URL, objectstore.Options{}).Open(t.Context(), objectstore.Ref{Bucket: "b", Key: "k"}, 0)
			require.ErrorIs(t, err, test.want)
			for _, other := range []error{objectstore.ErrMissing, objectstore.ErrForbidden, objectstore.ErrArchived, objectstore.ErrChanged, objectstore.ErrUnavailable} {
				require.Equal(t, other == test.want, errors.Is(err, other), "%v", other) //nolint:errorlint // compares sentinels
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		_, err := connect(t, "http://127.0.0.1:1", objectstore.Options{}).Open(t.Context(), objectstore.Ref{Bucket: "b", Key: "k"}, 0)
		require.ErrorIs(t, err, objectstore.ErrUnavailable)
	})
}

// flaky serves one object and breaks off after some bytes of each answer.
type flaky struct {
	content  []byte
	etag     atomic.Value
	step     int // bytes per answer; 0 for all
	stall    bool
	short    atomic.Int64 // so many answers announce half of the bytes, and give those
	requests atomic.Int64
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.requests.Add(1)
	etag := f.etag.Load().(string) //nolint:forcetypeassert // stored so
	if match := r.Header.Get("If-Match"); match != "" && match != `"`+etag+`"` {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	from := 0
	if text := r.Header.Get("Range"); text != "" {
		from, _ = strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(text, "bytes="), "-"))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(f.content)-1, len(f.content)))
	}
	w.Header().Set("ETag", `"`+etag+`"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(f.content)-from))
	w.Header().Set("Last-Modified", time.Unix(1_700_000_000, 0).UTC().Format(http.TimeFormat))
	end := len(f.content)
	short := f.short.Add(-1) >= 0
	if short {
		w.Header().Set("Content-Length", strconv.Itoa((end-from)/2))
	}
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	if short {
		_, _ = w.Write(f.content[from : from+(end-from)/2])
		return
	}
	if f.step > 0 {
		end = min(end, from+f.step)
	}
	_, _ = w.Write(f.content[from:end])
	if end == len(f.content) {
		return
	}
	w.(http.Flusher).Flush() //nolint:forcetypeassert // of this server
	if f.stall {
		<-r.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

func TestReadGoesOnAtTheSameByte(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	for _, stall := range []bool{false, true} {
		t.Run(fmt.Sprintf("stall %t", stall), func(t *testing.T) {
			source := &flaky{content: content, step: 30_000, stall: stall}
			source.etag.Store("one")
			server := httptest.NewServer(source)
			defer server.Close()
			var resumed atomic.Int64
			store := connect(t, server.URL, objectstore.Options{
				StallTimeout: 100 * time.Millisecond, OnResume: func(error) { resumed.Add(1) },
			})
			body, err := store.Open(t.Context(), objectstore.Ref{Bucket: "b", Key: "k", ETag: "one"}, 0)
			require.NoError(t, err)
			got, err := io.ReadAll(body)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, got))
			require.EqualValues(t, 5, resumed.Load())
			require.EqualValues(t, len(content), body.Offset())
			require.NoError(t, body.Close())
		})
	}
}

// What announces fewer bytes than the object has is not the object, however
// well-formed: taken for it, its last lines would be lost.
func TestAnswerShorterThanTheObject(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 1_000)
	serve := func(t *testing.T, source *flaky) *objectstore.Store {
		source.etag.Store("one")
		server := httptest.NewServer(source)
		t.Cleanup(server.Close)
		return connect(t, server.URL, objectstore.Options{StallTimeout: time.Second})
	}
	ref := objectstore.Ref{Bucket: "b", Key: "k", ETag: "one", Size: int64(len(content))}
	t.Run("when opened", func(t *testing.T) {
		source := &flaky{content: content}
		store := serve(t, source)
		source.short.Store(1)
		_, err := store.Open(t.Context(), ref, 0)
		require.ErrorIs(t, err, objectstore.ErrUnavailable)
		body, err := store.Open(t.Context(), ref, 0)
		require.NoError(t, err)
		got, err := io.ReadAll(body)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got))
	})
	t.Run("when another size was told", func(t *testing.T) {
		source := &flaky{content: content}
		told := ref
		for _, told.Size = range []int64{1024, int64(len(content)) + 48} {
			body, err := serve(t, source).Open(t.Context(), told, 0)
			require.NoError(t, err)
			require.EqualValues(t, len(content), body.Size)
			got, err := io.ReadAll(body)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, got))
		}
	})
	t.Run("when nobody told a size", func(t *testing.T) {
		var cut atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"one"`)
			if r.Method == http.MethodGet && r.Header.Get("Range") == "" {
				cut.Add(1)
				_, _ = w.Write(content[:10_000])
				w.(http.Flusher).Flush() //nolint:forcetypeassert // of this server; no Content-Length now
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		}))
		t.Cleanup(server.Close)
		body, err := connect(t, server.URL, objectstore.Options{}).Open(t.Context(), objectstore.Ref{Bucket: "b", Key: "k", ETag: "one"}, 0)
		require.NoError(t, err)
		got, err := io.ReadAll(body)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got))
		require.EqualValues(t, 1, cut.Load())
	})
	t.Run("when the store doesn't say a size", func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"one"`)
			w.Header().Set("Transfer-Encoding", "chunked") // and so no Content-Length
		}))
		t.Cleanup(server.Close)
		listed, err := connect(t, server.URL, objectstore.Options{}).Stat(t.Context(), "b", "k", "")
		require.NoError(t, err)
		require.Negative(t, listed.Size, "it is not known to be empty")
	})
	t.Run("after a break", func(t *testing.T) {
		source := &flaky{content: content, step: 10_000}
		store := serve(t, source)
		body, err := store.Open(t.Context(), ref, 0)
		require.NoError(t, err)
		source.short.Store(2)
		got, err := io.ReadAll(body)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got))
		require.Negative(t, source.short.Load(), "the short answers were given")
	})
}

func TestReadEndsWhenItCannotGoOn(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 100_000)
	open := func(t *testing.T, source *flaky, ctx context.Context) (*objectstore.Body, *httptest.Server) {
		source.etag.Store("one")
		server := httptest.NewServer(source)
		t.Cleanup(server.Close)
		store := connect(t, server.URL, objectstore.Options{StallTimeout: 50 * time.Millisecond})
		body, err := store.Open(ctx, objectstore.Ref{Bucket: "b", Key: "k"}, 0) // pinned by what the first answer said
		require.NoError(t, err)
		return body, server
	}
	t.Run("changed", func(t *testing.T) {
		source := &flaky{content: content, step: 10_000}
		body, _ := open(t, source, t.Context())
		source.etag.Store("two")
		got, err := io.ReadAll(body)
		require.ErrorIs(t, err, objectstore.ErrChanged)
		require.Len(t, got, 10_000)
	})
	t.Run("gone", func(t *testing.T) {
		body, server := open(t, &flaky{content: content, step: 10_000}, t.Context())
		server.CloseClientConnections()
		server.Close()
		_, err := io.ReadAll(body)
		require.ErrorIs(t, err, objectstore.ErrUnavailable)
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		body, _ := open(t, &flaky{content: content, step: 10_000, stall: true}, ctx)
		why := errors.New("why")
		cancel(why)
		_, err := io.ReadAll(body)
		require.ErrorIs(t, err, why)
	})
}

func TestAliasAndConfiguration(t *testing.T) {
	for _, test := range []struct {
		cfg  config.S3
		want string
	}{
		{config.S3{}, "aws"},
		{config.S3{Endpoint: "https://MinIO.example:9000/"}, "minio.example:9000"},
		{config.S3{Endpoint: "https://minio.example", Alias: "main"}, "main"},
	} {
		got, err := objectstore.Alias(test.cfg)
		require.NoError(t, err)
		require.Equal(t, test.want, got)
	}
	for name, cfg := range map[string]config.S3{
		"endpoint":    {Endpoint: "minio:9000"},
		"CA file":     {Endpoint: "http://x", CAFile: "/does/not/exist"},
		"secret file": {Endpoint: "http://x", AccessKeyID: "a", SecretAccessKeyFile: "/does/not/exist"},
	} {
		_, err := objectstore.New(t.Context(), cfg, objectstore.Options{})
		require.Error(t, err, name)
	}
}
