package intake

import (
	"hash/fnv"
	"sync"
)

// ownership says which sources this instance lists: those whose id hashes to a
// partition of `objects` that the group has given to it. The group thus spreads
// the sources over the instances, and moves them when one dies. For a moment two
// may list the same source, which is harmless.
type ownership struct {
	mu         sync.Mutex
	partitions map[int32]uint64 // and which coming of it
	sequence   uint64
	changed    chan struct{}
}

func newOwnership() *ownership {
	return &ownership{partitions: make(map[int32]uint64), changed: make(chan struct{})}
}

func (o *ownership) assigned(positions map[int32]int64) {
	o.change(func() {
		for partition := range positions {
			o.sequence++
			o.partitions[partition] = o.sequence
		}
	})
}

func (o *ownership) revoked(partitions []int32) {
	o.change(func() {
		for _, partition := range partitions {
			delete(o.partitions, partition)
		}
	})
}

// renew begins another term of office over a partition, if it is ours.
func (o *ownership) renew(partition int32) {
	o.change(func() {
		if _, ours := o.partitions[partition]; ours {
			o.sequence++
			o.partitions[partition] = o.sequence
		}
	})
}

func (o *ownership) change(apply func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	apply()
	close(o.changed)
	o.changed = make(chan struct{})
}

// term of office over a partition: zero when it is not ours, and another one
// each time it comes. changed is closed with the next change.
func (o *ownership) term(partition int32) (term uint64, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.partitions[partition], o.changed
}

// partitionOf is the partition whose owner lists the source.
func partitionOf(source string, partitions int32) int32 {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(source))                       // never fails
	return int32(uint64(hash.Sum32()) % uint64(partitions)) //nolint:gosec // below partitions
}
