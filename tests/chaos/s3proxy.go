package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// s3Fault is how the object store misbehaves.
type s3Fault int32

const (
	s3Well        s3Fault = iota
	s3Unavailable         // 503 SlowDown
	s3Truncates           // ends the connection before the body's announced end
	s3Short               // announces a shorter body than there is, and gives that
	s3Resets              // resets the connection in the middle of the body
	s3Stalls              // stops giving bytes in the middle of the body
	s3Faults
)

// s3Proxy is an HTTP reverse proxy before the S3 server. Requests keep their
// Host, so that their signatures hold.
type s3Proxy struct {
	listener  net.Listener
	server    *http.Server
	upstream  string // host:port
	transport *http.Transport

	fault atomic.Int32
	share atomic.Int64 // of a million requests
	fired [s3Faults]atomic.Int64

	mu  sync.Mutex
	rng *rand.Rand
}

func newS3Proxy(upstream string, rng *rand.Rand) (*s3Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &s3Proxy{
		listener: listener, upstream: strings.TrimPrefix(upstream, "http://"), rng: rng,
		transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true, IdleConnTimeout: 30 * time.Second},
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	go func() { _ = p.server.Serve(listener) }() // ends with close
	return p, nil
}

func (p *s3Proxy) endpoint() string { return "http://" + p.listener.Addr().String() }

func (p *s3Proxy) close() {
	p.server.Close()
	p.transport.CloseIdleConnections()
}

// set makes the store misbehave on a share of the requests.
func (p *s3Proxy) set(fault s3Fault, share float64) {
	p.share.Store(int64(share * 1e6))
	p.fault.Store(int32(fault))
}

func (p *s3Proxy) draw(n int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rng.Int64N(n)
}

func (p *s3Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault := s3Fault(p.fault.Load())
	if fault != s3Well && p.draw(1_000_000) >= p.share.Load() {
		fault = s3Well
	}
	if fault == s3Unavailable {
		p.fired[fault].Add(1)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)
		return
	}
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", p.upstream, ""
	out.Host = r.Host
	answer, err := p.transport.RoundTrip(out)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	object := r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "" && answer.StatusCode < 300
	if fault == s3Well || !object || answer.ContentLength < 2 {
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body) // the client may have gone
		return
	}
	p.spoil(w, answer, fault)
}

// spoil passes a part of the body on and then does what the fault is.
func (p *s3Proxy) spoil(w http.ResponseWriter, answer *http.Response, fault s3Fault) {
	part := 1 + p.draw(answer.ContentLength-1)
	if fault == s3Short {
		w.Header().Set("Content-Length", fmt.Sprint(part))
	}
	w.WriteHeader(answer.StatusCode)
	if _, err := io.CopyN(w, answer.Body, part); err != nil {
		return
	}
	p.fired[fault].Add(1)
	if fault == s3Short {
		return
	}
	if fault == s3Stalls {
		_ = http.NewResponseController(w).Flush()
		time.Sleep(4 * time.Second)
	}
	connection, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_ = buffered.Flush()
	if tcp, ok := connection.(*net.TCPConn); ok && fault == s3Resets {
		_ = tcp.SetLinger(0)
	}
	connection.Close()
}
