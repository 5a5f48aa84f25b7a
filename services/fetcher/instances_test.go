package fetcher_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/services/fetcher/split"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

func TestAnnouncedAgain(t *testing.T) { servers.EachKafka(t, announcedAgain) }

func announcedAgain(t *testing.T, brokers []string) {
	w := newWorld(t, brokers...)
	want := make(expected)
	text := numbered("again", 2000, 500)
	want.lines(w.put("logs/again", []byte(text)), text) // not compressed, so that it counts as large
	object := w.stored("logs/again")
	w.announce(object, object)

	// Around aborts and a crash.
	aborted := 0
	abort := abortEvery(2, &aborted)
	crash := crashAt(split.StepTold, 3)
	w.start(func(o *fetcher.Options) {
		noListing(o)
		o.AtStep = func(step split.Step) error {
			if err := crash(step); err != nil {
				return err
			}
			return abort(step)
		}
	}).crashed()
	w.announce(object)
	r := w.start(noListing)
	w.requireRaw(want)
	require.Positive(t, aborted)
	r.stop()

	// After a restart, by listing and by announcing.
	r = w.start(func(o *fetcher.Options) { o.Config.ObjectsPerTransaction = 1 })
	w.announce(object)
	require.Eventually(t, func() bool { return r.metric("auditstream_fetcher_objects_total", "duplicate") == 1 }, patience, 20*time.Millisecond)
	w.requireRaw(want)

	// A deliberate repeat raises the generation, and gives the same rows.
	object.Generation, object.Cause = 1, topics.CauseReplayed
	w.announce(object)
	records := w.committed(w.names.Raw, func(records []*kgo.Record) bool { return len(records) >= 2*len(want) })
	require.Len(t, records, 2*len(want))
	w.deadLetters(0)
}

func TestInstancesComeAndGo(t *testing.T) { servers.EachKafka(t, instancesComeAndGo) }

func instancesComeAndGo(t *testing.T, brokers []string) {
	w := newWorld(t, brokers...)
	want := make(expected)
	for i := range 40 {
		key := fmt.Sprintf("logs/%02d.gz", i)
		text := numbered(key, 400+i*20, 500)
		want.lines(w.put(key, zip(text)), text)
	}
	named := func(name string) func(*fetcher.Options) {
		return func(o *fetcher.Options) {
			o.Instance = name
			o.Config.ObjectsPerTransaction = 5
			o.Config.OpenObjects = 3
		}
	}
	one := w.start(named("one"))
	for i := range 3 {
		two := w.start(named("two"))
		require.Eventually(t, func() bool { return two.metric("auditstream_fetcher_lines_total") > 0 || i > 0 }, patience, 10*time.Millisecond)
		one.stop()
		one = w.start(named("one"))
		two.stop()
	}
	w.requireRaw(want)
	w.deadLetters(0)
}

func TestStopsWhileTheBrokerIsAway(t *testing.T) {
	broker := servers.EmbeddedKafka(t, "")
	w := newWorld(t, broker.Addresses()...)
	w.put("logs/stop", []byte(noise(20<<20)))
	// An end of a transaction that is under way may use up the transaction's time.
	r := w.start(func(o *fetcher.Options) { o.Kafka.TransactionTimeout = 8 * time.Second })
	require.Eventually(t, func() bool { return r.metric("auditstream_fetcher_lines_total") > 0 }, patience, time.Millisecond)
	require.NoError(t, broker.Close())
	w.put("logs/unannounced", []byte("text\n"))
	listed := r.metric("auditstream_fetcher_listings_total", "complete")
	require.Eventually(t, func() bool { // its announcement is under way: the pass does not end
		time.Sleep(500 * time.Millisecond)
		now := r.metric("auditstream_fetcher_listings_total", "complete")
		ended := now == listed
		listed = now
		return ended
	}, patience, time.Millisecond)
	began := time.Now()
	r.stop()
	require.Less(t, time.Since(began), 25*time.Second)
}

func TestStopsInOrder(t *testing.T) {
	w := newWorld(t)
	text := numbered("stop", 20000, 300)
	want := make(expected)
	want.lines(w.put("logs/stop", zip(text)), text)
	for range 3 {
		r := w.start(nil)
		require.Eventually(t, func() bool { return r.metric("auditstream_fetcher_lines_total") > 0 }, patience, time.Millisecond)
		began := time.Now()
		r.stop()
		require.Less(t, time.Since(began), 5*time.Second)
	}
	w.start(nil)
	w.requireRaw(want)
}
