package split

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/topics"
)

// voidRecord is a void as it is met in the log.
func voidRecord(t *testing.T, void topics.Void, in int32) *kgo.Record {
	t.Helper()
	record, err := (&topics.Noted{Void: &void}).Record("objects")
	require.NoError(t, err)
	record.Partition = in
	return record
}

// What was announced before a gap counts no more once the void is met: the log
// lacks it, and what became of it may have been in the gap.
func TestAVoidForgetsWhatTheLogLacks(t *testing.T) {
	begin := time.Now().Add(-time.Hour)
	before := []announcedAt{{key: "a"}, {key: "b"}, {key: "a", generation: 1}, {key: "c"}, {key: "d"}} // at offsets 0, 2, 4, 6, 8
	after := []announcedAt{{key: "a", minute: 1}, {key: "b", minute: 1}, {key: "a", generation: 1, minute: 1}, {key: "c", minute: 1}, {key: "d", minute: 1},
		{key: "a", minute: 2}, {key: "d", minute: 2}, {key: "e", minute: 2}}
	for name, one := range map[string]struct {
		void topics.Void
		in   int32 // the partition that tells of it
		// first is the offset of the first announcement after the void, want the
		// answers there: known before, forgotten, or new.
		first int64
		want  string
	}{
		"nothing was lost before it":   {void: topics.Void{From: 0, Next: 0}, first: 12, want: ".......F"},
		"the log begins later":         {void: topics.Void{From: 10, Next: 20}, first: 22, want: "FFFFF..F"},
		"it begins among what is seen": {void: topics.Void{From: 3, Next: 6}, first: 12, want: "FFF....F"},
		"at an announcement":           {void: topics.Void{From: 2, Next: 2}, first: 12, want: "F......F"},
		"no offsets were known":        {void: topics.Void{From: 0, Next: 9}, first: 12, want: "FFFFF..F"},
		"the log was made anew":        {void: topics.Void{From: 10, Next: 0}, first: 2, want: "FFFFF..F"},
		"anew, at the same offsets":    {void: topics.Void{From: 10, Next: 0}, first: 0, want: "FFFFF..F"},
		"the log was cut":              {void: topics.Void{From: 10, Next: 4}, first: 4, want: "FFFFF..F"},
		"another partition's":          {void: topics.Void{Partition: 1, From: 10, Next: 20}, first: 12, want: ".......F"},
		"met in another partition":     {void: topics.Void{From: 10, Next: 20}, in: 1, first: 12, want: ".......F"},
	} {
		t.Run(name, func(t *testing.T) {
			log := logOf(t, begin, before)
			d := testDedupe(t, log, time.Hour, 100)
			require.Equal(t, "FFFFF", decide(t, d, log, 0))
			d.committed()
			var renewed []int32
			s := &Splitter{dedupe: d, onVoid: func(partition int32) { renewed = append(renewed, partition) }}
			later := logOf(t, begin, after)
			for i := range later {
				later[i].Offset = one.first + int64(2*i)
			}
			elsewhere := logOf(t, begin, after[:5])
			for i := range elsewhere {
				elsewhere[i].Offset = 50 + int64(i)
			}

			// The same once more after an abort, which takes the void back, too.
			for range 2 {
				s.heed(voidRecord(t, one.void, one.in))
				require.Equal(t, one.want, decide(t, d, later, 0))
				d.aborted()
				require.Equal(t, ".....", decide(t, d, elsewhere, 0), "before the void is met")
				d.aborted()
			}
			s.heed(voidRecord(t, one.void, one.in))
			s.heed(voidRecord(t, one.void, one.in)) // it is written twice
			require.Equal(t, one.want, decide(t, d, later, 0))
			d.committed()
			require.Equal(t, []int32{one.in, one.in, one.in, one.in}, renewed, "listings are told of every void")
			require.Equal(t, len(before)+len(after), d.count)

			// The horizon passes over what was forgotten without taking what came instead.
			last := logOf(t, begin.Add(61*time.Minute+30*time.Second), []announcedAt{{key: "a"}, {key: "f"}})
			for i := range last {
				last[i].Offset = 100 + int64(i)
			}
			require.Equal(t, ".F", decide(t, d, last, 0))
			d.committed()
			d.drop(0)
			require.Zero(t, d.count)
		})
	}
}

// An owner that reads the log back after a gap comes to the same answers as the
// one that met the void.
func TestAVoidIsAsReadBack(t *testing.T) {
	begin := time.Now().Add(-time.Hour)
	log := logOf(t, begin, []announcedAt{{key: "a"}, {key: "b"}, {key: "c"}, {key: "b", minute: 1}, {key: "c", minute: 2}, {key: "a", minute: 3}, {key: "c", minute: 4}})
	const next = 6 // what is before it is gone; b and c come after it
	d := testDedupe(t, log, time.Hour, 100)
	require.Equal(t, "FFF", decide(t, d, log[:3], 0))
	d.committed()
	s := &Splitter{dedupe: d, onVoid: func(int32) {}}
	s.heed(voidRecord(t, topics.Void{From: 5, Next: next}, 0))
	met := decide(t, d, log, next)
	require.Equal(t, "FFF.", met)
	d.committed()
	for i := range log[3:] {
		from := log[3+i].Offset
		fresh := testDedupe(t, log[3:], time.Hour, 100)
		require.NoError(t, fresh.load(t.Context(), map[int32]int64{0: from}))
		require.Equal(t, met[i:], decide(t, fresh, log, from), "from offset %d", from)
	}
}
