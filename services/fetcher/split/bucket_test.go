package split

import (
	"bytes"
	"crypto/md5" //nolint:gosec // what S3 makes ETags of
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// bucketServer answers GET as S3 does, and breaks off now and then.
type bucketServer struct {
	mu      sync.Mutex
	random  *rand.Rand
	objects map[string][]byte
}

func etagOf(content []byte) string {
	sum := md5.Sum(content) //nolint:gosec // as S3 does
	return hex.EncodeToString(sum[:])
}

func (b *bucketServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	b.mu.Lock()
	content, found := b.objects[key]
	fate, part := b.random.IntN(48), b.random.Float64()
	b.mu.Unlock()
	if !found {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	etag := `"` + etagOf(content) + `"`
	w.Header().Set("ETag", etag)
	w.Header().Set("Last-Modified", time.Unix(1_700_000_000, 0).UTC().Format(http.TimeFormat))
	if r.Method == http.MethodGet && fate == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if r.Method == http.MethodGet && fate <= 8 {
		w = &breaking{w, int(part * float64(len(content)))}
	}
	if r.Method == http.MethodGet && 9 <= fate && fate <= 12 {
		w = &slowing{w}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// breaking ends the connection after some bytes.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		_, _ = b.ResponseWriter.Write(p[:max(len(p)+b.left, 0)])
		panic(http.ErrAbortHandler)
	}
	return b.ResponseWriter.Write(p)
}

type slowing struct{ http.ResponseWriter }

func (s *slowing) Write(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return s.ResponseWriter.Write(p)
}
