package fetcher_test

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/services/fetcher/split"
)

var errCrash = errors.New("crash")

// crashAt fails at the nth coming of a step.
func crashAt(step split.Step, n int64) func(split.Step) error {
	var count atomic.Int64
	return func(at split.Step) error {
		if at == step && count.Add(1) == n {
			return errCrash
		}
		return nil
	}
}

// healthRecord keeps what was reported.
type healthRecord struct {
	mu     sync.Mutex
	states map[string]error
	bad    map[string]int
}

func newHealthRecord() *healthRecord {
	return &healthRecord{states: make(map[string]error), bad: make(map[string]int)}
}

func (*healthRecord) Expect(...string) {}

func (h *healthRecord) Report(component string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states[component] = err
	if err != nil {
		h.bad[component]++
	}
}

func (h *healthRecord) get(component string) (bad int, now error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bad[component], h.states[component]
}

// faults is a proxy before the object store.
type faults struct {
	proxy *httputil.ReverseProxy
	// handle may answer a request itself, and then gives true.
	handle atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	fired  atomic.Int64
}

func newFaults(t *testing.T, target string) *faults {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	return &faults{proxy: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // the signature covers it
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}}
}

func (f *faults) set(handle func(http.ResponseWriter, *http.Request) bool) { f.handle.Store(&handle) }

func (f *faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if handle := f.handle.Load(); handle != nil && (*handle)(w, r) {
		f.fired.Add(1)
		return
	}
	f.proxy.ServeHTTP(w, r)
}

// hangUp breaks the connection without an answer.
func hangUp(http.ResponseWriter) { panic(http.ErrAbortHandler) }

// abortEvery aborts every nth transaction when its work is done.
func abortEvery(n int, aborted *int) func(split.Step) error {
	var count int
	return func(at split.Step) error {
		if at != split.StepTold {
			return nil
		}
		if count++; count%n != 0 {
			return nil
		}
		*aborted++
		return kafka.ErrAbort
	}
}

// noise is lines that don't compress, so that a buffer never holds an object.
func noise(size int) string {
	random := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, 0, size+100)
	for len(text) < size {
		text = strconv.AppendUint(text, random.Uint64(), 36)
		if random.IntN(30) == 0 {
			text = append(text, '\n')
		}
	}
	return string(append(text, '\n'))
}

// cutter passes on some bytes of a body.
type cutter struct {
	http.ResponseWriter
	left int
	end  func()
}

func (c *cutter) Write(p []byte) (int, error) {
	if n := min(len(p), c.left); n > 0 {
		c.left -= n
		if _, err := c.ResponseWriter.Write(p[:n]); err != nil {
			return 0, err
		}
		c.ResponseWriter.(http.Flusher).Flush() //nolint:forcetypeassert // of this server
	}
	if c.left == 0 {
		c.end()
	}
	return len(p), nil
}

func (c *cutter) Flush() { c.ResponseWriter.(http.Flusher).Flush() } //nolint:forcetypeassert // as above
