package audit

import (
	"hash/maphash"

	"github.com/auditstream/auditstream/pkg/event"
)

// pairs collects the members of an object of texts in their order; of a key
// that comes twice the last value counts. From fewKeys on it looks keys up by
// an index: somebody may well send a million labels.
type pairs struct {
	list  event.Map
	index []int32 // open addressing: a place in list plus one, or 0 for free; at most half full
	size  int     // of all texts, and something for each pair
}

const (
	fewKeys  = 16
	maxIndex = 4096 // kept: emptying a larger one for each line would take long
)

// keySeed makes collisions unpredictable for whoever chooses the keys.
var keySeed = maphash.MakeSeed()

func (p *pairs) reset() {
	p.list, p.size = p.list[:0], 0
	if len(p.index) > maxIndex {
		p.index = nil
	}
}

func (p *pairs) set(key, value string) {
	p.size += len(key) + len(value) + 32
	if len(p.list) < fewKeys {
		p.list.Set(key, value)
		return
	}
	if len(p.list) == fewKeys || 2*len(p.list) >= len(p.index) {
		p.buildIndex()
	}
	place := p.find(key)
	if known := p.index[place]; known != 0 {
		p.list[known-1].Value = value
		return
	}
	p.list = append(p.list, event.Pair{Key: key, Value: value})
	p.index[place] = int32(len(p.list))
}

// find returns where in the index key is, or belongs.
func (p *pairs) find(key string) int {
	mask := len(p.index) - 1
	place := int(maphash.String(keySeed, key)) & mask
	for p.index[place] != 0 && p.list[p.index[place]-1].Key != key {
		place = (place + 1) & mask
	}
	return place
}

// buildIndex makes room for as many keys again, and enters those that are there;
// what is left of an earlier use goes.
func (p *pairs) buildIndex() {
	if 4*len(p.list) > len(p.index) {
		p.index = make([]int32, max(8*fewKeys, 2*len(p.index)))
	} else {
		clear(p.index)
	}
	for i := range p.list {
		p.index[p.find(p.list[i].Key)] = int32(i + 1)
	}
}

// texts fills the pairs from the object at pos; anything else leaves it empty.
func (p *pairs) texts(s *scanner) {
	p.reset()
	if s.peek() != '{' {
		s.skip()
		return
	}
	for more := s.enter('}'); more; more = s.next('}') {
		key := s.key()
		p.set(key, s.text())
	}
}
