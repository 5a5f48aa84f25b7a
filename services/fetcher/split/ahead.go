package split

import (
	"context"
	"io"
	"sync"
)

const (
	chunkSize = 128 << 10
	// ownChunks each stream may read ahead whatever the others do.
	ownChunks = 2
)

// ahead is the memory that streams share to read ahead in. Decompressing goes
// on while a transaction is committed, and a stream that stands alone may use
// all of it.
type ahead struct {
	mu   sync.Mutex
	room *sync.Cond
	left int // chunks
	free [][]byte
}

func newAhead(bytes int64) *ahead {
	a := &ahead{left: int(bytes / chunkSize)}
	a.room = sync.NewCond(&a.mu)
	return a
}

// readAhead reads a stream before it is asked to. One goroutine reads the
// source, from newReadAhead until close.
type readAhead struct {
	shared *ahead
	source io.Reader
	done   sync.WaitGroup

	// Under shared.mu.
	chunks  [][]byte
	filling []byte // what is there of the chunk that comes after them
	shown   int    // so many bytes of what comes next are read already
	taken   int    // chunks held, being filled or waiting
	err     error  // comes after the chunks
	closed  bool
	filled  *sync.Cond
	hurry   bool // what is not there yet is not waited for
	turn    int

	current []byte // of the reader
	rest    []byte // of current
}

func newReadAhead(shared *ahead, source io.Reader) *readAhead {
	r := &readAhead{shared: shared, source: source, filled: sync.NewCond(&shared.mu)}
	r.done.Go(r.run)
	return r
}

func (r *readAhead) run() {
	for {
		chunk := r.takeChunk()
		if chunk == nil {
			return
		}
		n := 0
		var err error
		for n < len(chunk) && err == nil {
			var read int
			read, err = r.source.Read(chunk[n:])
			n += read
			r.shared.mu.Lock()
			r.filling = chunk[:n]
			r.filled.Signal()
			r.shared.mu.Unlock()
		}
		r.shared.mu.Lock()
		r.chunks, r.filling = append(r.chunks, chunk[:n]), nil
		r.err = err
		r.filled.Signal()
		r.shared.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// takeChunk waits for memory to read into; nil when the stream is closed.
func (r *readAhead) takeChunk() []byte {
	a := r.shared
	a.mu.Lock()
	defer a.mu.Unlock()
	for !r.closed && r.taken >= ownChunks && a.left <= 0 {
		a.room.Wait()
	}
	if r.closed {
		return nil
	}
	if r.taken++; r.taken > ownChunks {
		a.left--
	}
	if n := len(a.free); n > 0 {
		chunk := a.free[n-1]
		a.free = a.free[:n-1]
		return chunk[:chunkSize]
	}
	return make([]byte, chunkSize)
}

// giveBack returns a chunk. It is called under the lock.
func (r *readAhead) giveBack(chunk []byte) {
	a := r.shared
	if r.taken > ownChunks {
		a.left++
	}
	r.taken--
	a.free = append(a.free, chunk)
	a.room.Broadcast()
}

// hurryAfter has Read wait for bytes no longer when ctx is done, until the
// returned function is called. A slow store thus costs no stream.
func (r *readAhead) hurryAfter(ctx context.Context) (done func()) {
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	r.turn++
	turn := r.turn
	stop := context.AfterFunc(ctx, func() {
		r.shared.mu.Lock()
		defer r.shared.mu.Unlock()
		if r.turn == turn {
			r.hurry = true
			r.filled.Signal()
		}
	})
	return func() {
		stop()
		r.shared.mu.Lock()
		defer r.shared.mu.Unlock()
		r.turn++
		r.hurry = false
	}
}

// Read implements io.Reader. It gives errPaused instead of waiting in a hurry.
func (r *readAhead) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if err := r.await(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// await waits for bytes to give: those of the next chunk, or what there is of
// the one that is being filled, as the source may be long in filling it.
func (r *readAhead) await() error {
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	for {
		if r.current != nil {
			r.giveBack(r.current)
			r.current = nil
		}
		switch {
		case len(r.chunks) > 0:
			r.current, r.chunks = r.chunks[0], r.chunks[1:]
			r.rest, r.shown = r.current[r.shown:], 0
		case len(r.filling) > r.shown:
			r.rest, r.shown = r.filling[r.shown:], len(r.filling)
		case r.err != nil:
			return r.err
		case r.hurry:
			return errPaused
		default:
			r.filled.Wait()
		}
		if len(r.rest) > 0 {
			return nil
		}
	}
}

// close ends reading; the source must end a read that it is blocked in.
func (r *readAhead) close() {
	r.shared.mu.Lock()
	r.closed = true
	r.shared.room.Broadcast()
	r.shared.mu.Unlock()
	r.done.Wait()
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	if r.current != nil {
		r.giveBack(r.current)
	}
	for _, chunk := range r.chunks {
		r.giveBack(chunk)
	}
	r.chunks, r.current, r.rest = nil, nil, nil
}
