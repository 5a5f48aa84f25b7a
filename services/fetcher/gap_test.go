package fetcher_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/services/fetcher/split"
	"github.com/auditstream/auditstream/topics"
)

// held is a running instance whose first transaction with work stands still until
// it is released, and is then aborted.
type held struct {
	*running
	name    string
	release func()
}

func (w *world) startHeld(name string) *held {
	w.t.Helper()
	released, aborted := make(chan struct{}), false
	h := &held{name: name, release: sync.OnceFunc(func() { close(released) })}
	h.running = w.start(func(o *fetcher.Options) {
		o.Instance, o.Kafka.ClientID = name, name
		o.Kafka.AcceptGap = true
		o.AtStep = func(step split.Step) error {
			if step != split.StepTold || aborted {
				return nil
			}
			<-released
			aborted = true
			return kafka.ErrAbort
		}
	})
	w.t.Cleanup(h.release) // before the instance is stopped
	return h
}

// assigned are the partitions of `objects` by instance.
func (w *world) assigned() map[string][]int32 {
	w.t.Helper()
	found := make(map[string][]int32)
	described, err := kadm.NewClient(w.client).DescribeGroups(w.t.Context(), w.options().Kafka.Group+"-fetcher")
	if err != nil {
		return nil
	}
	for _, group := range described {
		if group.State != "Stable" {
			return nil
		}
		for _, member := range group.Members {
			consumer, is := member.Assigned.AsConsumer()
			if !is {
				continue
			}
			for _, topic := range consumer.Topics {
				found[member.ClientID] = append(found[member.ClientID], topic.Partitions...)
			}
		}
	}
	return found
}

// announcedIn gives the end of the last announcement of each partition, and
// whether all objects have been noted after that.
func (w *world) announcedIn(objects int) (ends map[int32]int64, counts map[int32]int) {
	w.t.Helper()
	ends, counts = make(map[int32]int64), make(map[int32]int)
	noted := 0
	for _, record := range w.committed(w.names.Objects, func(records []*kgo.Record) bool {
		ids := 0
		for _, record := range records {
			if note, err := topics.DecodeNoted(record.Value); topics.IsNoted(record) && err == nil {
				ids += len(note.IDs)
			}
		}
		return ids >= objects
	}) {
		if topics.IsNoted(record) {
			note, err := topics.DecodeNoted(record.Value)
			require.NoError(w.t, err)
			noted += len(note.IDs)
			continue
		}
		ends[record.Partition] = record.Offset + 1
		counts[record.Partition]++
	}
	require.Equal(w.t, objects, noted)
	return ends, counts
}

// Two instances run. One meets a gap, before which nothing was read, and accepts
// it; the other one lists the source, knows all of it as announced, and has lost
// nothing itself. It announces again what the gap has swallowed, and only that.
func TestAGapIsToldToARunningInstance(t *testing.T) {
	w := newWorld(t)
	const objects = 40
	want := make(expected)
	known := make(map[string]bool)
	for i := range objects {
		key := fmt.Sprintf("logs/%03d.json", i)
		text := numbered(key, 5, 100)
		id := w.put(key, []byte(text))
		want.lines(id, text)
		known[id] = true
	}
	// No listing succeeds before both have their partitions.
	w.faults.set(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("list-type") != "2" {
			return false
		}
		rw.WriteHeader(http.StatusForbidden)
		return true
	})
	one, two := w.startHeld("one"), w.startHeld("two")
	var owned map[string][]int32
	require.Eventually(t, func() bool {
		owned = w.assigned()
		return len(owned["one"]) > 0 && len(owned["two"]) > 0 && len(owned["one"])+len(owned["two"]) == partitions
	}, patience, 50*time.Millisecond)
	// Nor may a pass be under way of one that has just lost the source.
	failed := func() float64 {
		return one.metric("auditstream_fetcher_listings_total", "failed") + two.metric("auditstream_fetcher_listings_total", "failed")
	}
	before := failed()
	require.Eventually(t, func() bool { return failed() >= before+2 }, patience, 10*time.Millisecond)
	require.Equal(t, owned, w.assigned())
	w.faults.set(func(http.ResponseWriter, *http.Request) bool { return false })

	ends, counts := w.announcedIn(objects)
	require.Positive(t, w.faults.fired.Load())
	lists := func(h *held) float64 { return h.metric("auditstream_fetcher_listings_total", "complete") }
	lister, other := one, two
	if lists(two) > 0 {
		lister, other = two, one
	}
	require.Positive(t, lists(lister))
	require.EqualValues(t, objects, lister.metric("auditstream_fetcher_announced_total"))
	lister.release() // what it has is fetched

	// What is announced in a partition of the other one goes missing unread.
	gap := owned[other.name][0]
	require.Positive(t, counts[gap])
	deletion := make(kadm.Offsets)
	deletion.AddOffset(w.names.Objects, gap, ends[gap], -1)
	deleted, err := kadm.NewClient(w.client).DeleteRecords(t.Context(), deletion)
	require.NoError(t, err)
	require.NoError(t, deleted.Error())
	other.release() // it goes back to where the group is, which is gone

	w.requireRaw(want) // the same ids, each once
	w.deadLetters(0)
	require.EqualValues(t, objects+counts[gap], lister.metric("auditstream_fetcher_announced_total"), "what was not lost is not announced again")
	require.EqualValues(t, 1, other.metric("auditstream_fetcher_accepted_gaps_total"))
	require.Zero(t, lister.metric("auditstream_fetcher_accepted_gaps_total"))
	require.Zero(t, lists(other), "the other one lists nothing")
	require.Zero(t, other.metric("auditstream_fetcher_announced_total"))
	require.Equal(t, owned, w.assigned(), "both have run all the time")

	// What came again stands behind the gap.
	again := make(map[string]bool)
	for _, record := range w.committed(w.names.Objects, func(records []*kgo.Record) bool { return len(records) >= objects }) {
		if object, err := topics.DecodeObject(record.Value); err == nil && !topics.IsNoted(record) && object.Cause.Announces() && record.Partition == gap {
			require.GreaterOrEqual(t, record.Offset, ends[gap])
			require.True(t, known[object.ID])
			again[object.ID] = true
		}
	}
	require.Len(t, again, counts[gap])
}
