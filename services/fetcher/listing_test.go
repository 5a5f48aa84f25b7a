package fetcher_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/topics"
)

// What was announced before the horizon is known after a restart, too; what
// comes late is found wherever its key sorts.
func TestListingRemembersBeyondTheHorizon(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	for i := range 40 {
		key := fmt.Sprintf("logs/m/%03d.json", i)
		text := numbered(key, 3, 100)
		want.lines(w.put(key, []byte(text)), text)
	}
	const horizon = 4 * time.Second
	short := func(o *fetcher.Options) { o.Config.DedupeHorizon = horizon }
	r := w.start(short)
	w.requireRaw(want)
	// Until a note is younger than the horizon and the announcements are older.
	records := w.committed(w.names.Objects, func(records []*kgo.Record) bool {
		var announced, noted time.Time
		for _, record := range records {
			if !topics.IsNoted(record) {
				announced = record.Timestamp
			} else if note, err := topics.DecodeNoted(record.Value); err == nil && note.Last {
				noted = record.Timestamp
			}
		}
		return noted.Sub(announced) > horizon
	})
	r.stop()
	require.NotEmpty(t, records)
	require.EqualValues(t, 40, r.metric("auditstream_fetcher_announced_total"))

	text := "late\n"
	want.lines(w.put("logs/a/late", []byte(text)), text)
	again := w.start(short)
	w.requireRaw(want)
	require.EqualValues(t, 1, again.metric("auditstream_fetcher_announced_total"), "a restart announces nothing again")
	require.Positive(t, r.metric("auditstream_fetcher_objects_total", "note"))
	w.deadLetters(0)
}
