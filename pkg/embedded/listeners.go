package embedded

import (
	"context"
	"net"
	"sync"
)

// listeners remembers what was opened through it, so that Close can end the
// connections that the broker leaves open and wait until each was let go.
type listeners struct {
	mutex       sync.Mutex
	open        []net.Listener
	connections map[*trackedConnection]struct{}
	closed      bool
	released    sync.WaitGroup
}

func (l *listeners) listen(ctx context.Context, network, address string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.open = append(l.open, listener)
	return trackedListener{Listener: listener, all: l}, nil
}

// close ends everything and waits until the broker has let go of each
// connection.
func (l *listeners) close() {
	l.mutex.Lock()
	l.closed = true
	for _, listener := range l.open {
		_ = listener.Close() // most often closed already
	}
	for connection := range l.connections {
		// Only the socket: the broker's own Close is what counts as let go.
		_ = connection.Conn.Close()
	}
	l.mutex.Unlock()
	l.released.Wait()
}

type trackedListener struct {
	net.Listener
	all *listeners
}

func (t trackedListener) Accept() (net.Conn, error) {
	accepted, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	connection := &trackedConnection{Conn: accepted, all: t.all}
	t.all.mutex.Lock()
	defer t.all.mutex.Unlock()
	if t.all.closed {
		accepted.Close()
		return nil, net.ErrClosed
	}
	if t.all.connections == nil {
		t.all.connections = make(map[*trackedConnection]struct{})
	}
	t.all.connections[connection] = struct{}{}
	t.all.released.Add(1)
	return connection, nil
}

type trackedConnection struct {
	net.Conn
	all  *listeners
	once sync.Once
}

func (c *trackedConnection) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.all.mutex.Lock()
		delete(c.all.connections, c)
		c.all.mutex.Unlock()
		c.all.released.Done()
	})
	return err
}
