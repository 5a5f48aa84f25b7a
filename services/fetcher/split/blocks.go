package split

import "sync"

const (
	blockSize = 256 << 10
	// usefulRoom is the least that is worth going on in a block that others have
	// begun.
	usefulRoom = 32 << 10
	// mostFree bounds the blocks kept for later.
	mostFree = 128
)

// block is memory that lines are slices of.
type block struct {
	data []byte
	used int // by lines that were produced
}

// blocks lends out memory for lines and takes it back when the transaction that
// they are part of has ended well: until then Kafka's client may send them.
type blocks struct {
	mu    sync.Mutex
	free  []*block
	begun []*block // with room left
	spent []*block
}

// take gives a block with room in it.
func (b *blocks) take() *block {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, list := range []*[]*block{&b.begun, &b.free} {
		if n := len(*list); n > 0 {
			taken := (*list)[n-1]
			*list = (*list)[:n-1]
			return taken
		}
	}
	return &block{data: make([]byte, blockSize)}
}

// put takes a block back of which more bytes are used.
func (b *blocks) put(back *block, used int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	back.used += used
	if len(back.data)-back.used >= usefulRoom {
		b.begun = append(b.begun, back)
		return
	}
	b.spent = append(b.spent, back)
}

// committed frees what the transaction has used.
func (b *blocks) committed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, list := range []*[]*block{&b.begun, &b.spent} {
		for _, done := range *list {
			done.used = 0
			if len(b.free) < mostFree {
				b.free = append(b.free, done)
			}
		}
		clear(*list)
		*list = (*list)[:0]
	}
}

// aborted leaves what the transaction has used to Kafka's client.
func (b *blocks) aborted() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begun, b.spent = nil, nil
}
