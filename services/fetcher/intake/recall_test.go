package intake

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/topics"
)

// What a note says counts unless it was written without knowing that something
// is missing from the log; what the log still announces counts always.
func TestNotesAndVoids(t *testing.T) {
	id := func(key string) string { return identity.ObjectID("e", "b", key, "1") }
	noted := func(key string) topics.NotedID {
		var bytes topics.NotedID
		_, err := hex.Decode(bytes[:], []byte(id(key)))
		require.NoError(t, err)
		return bytes
	}
	void := &topics.Void{Partition: 0, From: 5, Next: 9}
	other := &topics.Void{Partition: 2, From: 1, Next: 2}
	type entry struct {
		partition int32
		object    string       // announced
		note      topics.Noted // or noted
	}
	note := func(partition int32, keys string, knows ...string) entry {
		n := topics.Noted{Source: "a", Knows: knows, Last: true}
		for _, key := range keys {
			n.IDs = append(n.IDs, noted(string(key)))
		}
		return entry{partition: partition, note: n}
	}
	told := func(partition int32, v *topics.Void) entry {
		return entry{partition: partition, note: topics.Noted{Void: v}}
	}
	for name, test := range map[string]struct {
		log   []entry
		want  string
		knows []string
		last  bool
	}{
		"announced":                     {[]entry{{object: "x"}, {partition: 1, object: "y"}}, "xy", nil, false},
		"announced and noted":           {[]entry{{object: "x"}, note(1, "xyz")}, "xyz", nil, true},
		"void after the note":           {[]entry{{object: "x"}, note(1, "xyz"), told(0, void), told(1, void)}, "x", []string{void.Name()}, false},
		"void that is not there yet":    {[]entry{note(1, "yz"), told(0, void)}, "yz", nil, true},
		"void twice":                    {[]entry{note(1, "y"), told(1, void), note(1, "z", void.Name()), told(1, void)}, "z", []string{void.Name()}, true},
		"a late note that knows not":    {[]entry{told(1, void), note(1, "yz")}, "", []string{void.Name()}, false},
		"a note that knows":             {[]entry{told(1, void), note(1, "yz", void.Name())}, "yz", []string{void.Name()}, true},
		"a note that knows one of two":  {[]entry{told(1, other), told(1, void), note(1, "yz", void.Name())}, "", []string{other.Name(), void.Name()}, false},
		"announced again after a void":  {[]entry{note(1, "yz"), told(1, void), {object: "y"}}, "y", []string{void.Name()}, false},
		"announced before, noted after": {[]entry{{object: "y"}, note(1, "yz"), told(1, void)}, "y", []string{void.Name()}, false},
		"no notes":                      {[]entry{{object: "x"}, told(1, void), told(2, void)}, "x", []string{void.Name()}, false},
	} {
		t.Run(name, func(t *testing.T) {
			known := map[string]*knowledge{"a": {1, newAnnounced(10)}}
			r := newReading(known)
			for i, e := range test.log {
				var record *kgo.Record
				var err error
				if e.object != "" {
					record, err = (&topics.Object{
						ID: id(e.object), Source: "a", Endpoint: "e", Bucket: "b", Key: e.object, ETag: "1", FromLine: 1, Cause: topics.CauseListed,
					}).Record("objects")
				} else {
					record, err = e.note.Record("objects")
				}
				require.NoError(t, err)
				record.Partition, record.Offset, record.Timestamp = e.partition, int64(i), time.Now()
				r.take(record)
			}
			r.take(&kgo.Record{Value: []byte("no record")})
			r.end()
			a := known["a"].announced
			var got string
			for _, key := range []string{"x", "y", "z"} {
				if _, there := a.ids[noted(key)]; there {
					got += key
				}
			}
			require.Equal(t, test.want, got)
			require.Equal(t, test.knows, a.knows)
			require.Equal(t, test.last, !a.noted.IsZero())
		})
	}
}
