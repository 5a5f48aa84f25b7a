package audit

import "github.com/auditstream/auditstream/pkg/event"

// pairs collects the members of an object of texts in their order; of a key
// that comes twice the last value counts. From fewKeys on it looks keys up by
// an index: somebody may well send a hundred thousand labels.
type pairs struct {
	list  event.Map
	index map[string]int
}

const fewKeys = 16

func (p *pairs) reset() {
	p.list = p.list[:0]
	if len(p.index) > 0 {
		clear(p.index)
	}
}

func (p *pairs) set(key, value string) {
	if len(p.list) < fewKeys {
		p.list.Set(key, value)
		return
	}
	if len(p.index) == 0 {
		if p.index == nil {
			p.index = make(map[string]int)
		}
		for i := range p.list {
			p.index[p.list[i].Key] = i
		}
	}
	if i, known := p.index[key]; known {
		p.list[i].Value = value
		return
	}
	p.index[key] = len(p.list)
	p.list = append(p.list, event.Pair{Key: key, Value: value})
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
