package main

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// proxy stands between the stages and one server and breaks what passes: it
// cuts connections, delays them, and lets replies get lost after the server
// has done the work.
type proxy struct {
	listener net.Listener
	upstream atomic.Pointer[string]

	mu      sync.Mutex
	links   map[*link]struct{}
	refuses bool
	delay   time.Duration // of new connections, while a delay is on
}

// link is one connection through the proxy.
type link struct {
	proxy          *proxy
	client, server net.Conn
	delay          atomic.Int64 // of each piece, both ways
	deaf           atomic.Bool  // what the server says is lost
	asked, lost    atomic.Int64 // bytes, since it is deaf
	once           sync.Once
}

func newProxy() (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, links: make(map[*link]struct{})}
	go p.accept()
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) to(upstream string) { p.upstream.Store(&upstream) }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(client)
	}
}

func (p *proxy) serve(client net.Conn) {
	upstream := p.upstream.Load()
	p.mu.Lock()
	refuses, delay := p.refuses, p.delay
	p.mu.Unlock()
	if refuses || upstream == nil {
		client.Close()
		return
	}
	server, err := net.DialTimeout("tcp", *upstream, 5*time.Second)
	if err != nil {
		client.Close()
		return
	}
	l := &link{proxy: p, client: client, server: server}
	l.delay.Store(int64(delay))
	p.mu.Lock()
	p.links[l] = struct{}{}
	p.mu.Unlock()
	go l.copy(server, client, true)
	l.copy(client, server, false)
}

func (l *link) copy(to, from net.Conn, asks bool) {
	defer l.close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if delay := time.Duration(l.delay.Load()); delay > 0 {
				time.Sleep(delay)
			}
			switch {
			case !l.deaf.Load():
			case asks:
				l.asked.Add(int64(n))
			default:
				l.lost.Add(int64(n))
				continue
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *link) close() {
	l.once.Do(func() {
		l.client.Close()
		l.server.Close()
		l.proxy.mu.Lock()
		delete(l.proxy.links, l)
		l.proxy.mu.Unlock()
	})
}

// some chooses a share of the connections there are.
func (p *proxy) some(rng *rand.Rand, share float64) []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	var chosen []*link
	for l := range p.links {
		if rng.Float64() < share {
			chosen = append(chosen, l)
		}
	}
	return chosen
}

// cut ends a share of the connections; it returns how many.
func (p *proxy) cut(rng *rand.Rand, share float64) int {
	chosen := p.some(rng, share)
	for _, l := range chosen {
		l.close()
	}
	return len(chosen)
}

func (p *proxy) refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = on
}

// slow delays every piece that passes, on all connections; 0 ends it.
func (p *proxy) slow(delay time.Duration) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
	for l := range p.links {
		l.delay.Store(int64(delay))
	}
	return len(p.links)
}

// deafen makes a share of the connections lose what the server says.
func (p *proxy) deafen(rng *rand.Rand, share float64) []*link {
	chosen := p.some(rng, share)
	for _, l := range chosen {
		l.deaf.Store(true)
	}
	return chosen
}

// lostReplies ends the deaf connections and counts those on which the server
// was asked something and its answer was lost.
func lostReplies(deaf []*link) (lost int) {
	for _, l := range deaf {
		l.close()
		if l.asked.Load() > 0 && l.lost.Load() > 0 {
			lost++
		}
	}
	return lost
}

func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	for _, l := range links {
		l.close()
	}
}
