package verify

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var scale = flag.Int("scale", 0, "verify so many million rows, and say how long it takes")

// How long a verification takes: of a table with rows of a thousand lines an
// object, over a year and four sources.
//
//	go test ./services/auditstream/verify -run Scale -v -scale 10
func TestScale(t *testing.T) {
	if *scale == 0 {
		t.Skip("measures; asked for with -scale")
	}
	const lines = 1000
	objects := *scale * 1000
	w := newWorld(t)
	w.exec("ALTER TABLE " + w.cfg.Table + " RESET SETTING max_bytes_to_merge_at_max_space_in_pool, max_bytes_to_merge_at_min_space_in_pool")
	const object = "lower(hex(MD5(toString(%s))))"
	received := fmt.Sprintf("toDateTime(%d + intDiv((%%s), 4) * intDiv(31536000 * 4, %d))", time.Now().AddDate(-1, 0, 0).Unix(), objects)
	began := time.Now()
	for from := 0; from < objects; from += 1000 {
		of := fmt.Sprintf("(%d + intDiv(number, %d))", from, lines)
		w.exec("INSERT INTO " + w.cfg.Table + " (workspaceID, sourceID, receivedAt, id, rawLog) SELECT 'w', 's' || toString(" + of + " % 4), " +
			fmt.Sprintf(received, of) + ", " + fmt.Sprintf(object, of) + fmt.Sprintf(" || '-' || leftPad(toString(number %% %d + 1), 12, '0'), ", lines) +
			fmt.Sprintf("randomPrintableASCII(100) FROM numbers(%d) SETTINGS max_partitions_per_insert_block = 0", min(1000, objects-from)*lines))
	}
	w.exec("INSERT INTO " + w.cfg.ObjectsTable + " (workspaceID, sourceID, receivedAt, id, kind, object, bucket, key, firstLine, lines, outcome) SELECT 'w', 's' || toString(number % 4), " +
		fmt.Sprintf(received, "number") + ", " + fmt.Sprintf(object, "number") + " || '-g0-0-' || toString(number), 'object', " + fmt.Sprintf(object, "number") +
		fmt.Sprintf(", 'b', toString(number), 1, %d, 'complete' FROM numbers(%d) SETTINGS max_partitions_per_insert_block = 0", lines, objects))
	t.Logf("%d million rows of %d objects, filled in %s", *scale, objects, time.Since(began).Round(time.Second))

	r := w.verify()
	require.True(t, r.Complete(), "%v", r.Problems)
	require.Equal(t, int64(objects), r.Totals.Objects)
	require.Equal(t, int64(objects)*lines, r.Totals.Rows)
	t.Logf("all of it: %s", r.Took.Round(time.Millisecond))

	r = w.verify(func(o *Options) { o.Since = time.Now().AddDate(0, 0, -30) })
	require.True(t, r.Complete())
	t.Logf("the last 30 days, %d rows: %s", r.Totals.Rows, r.Took.Round(time.Millisecond))

	r = w.verify(func(o *Options) { o.Object = "s3://b/77" })
	require.True(t, r.Complete())
	require.Equal(t, int64(1), r.Totals.Objects)
	t.Logf("one object: %s", r.Took.Round(time.Millisecond))

	w.exec("ALTER TABLE " + w.cfg.Table + " DELETE WHERE cityHash64(id) % 100000 = 7 SETTINGS mutations_sync = 2")
	r = w.verify()
	require.NotEmpty(t, r.Problems)
	require.Equal(t, r.Totals.Objects*lines-r.Totals.Rows, r.Totals.Missing)
	t.Logf("with %d of the rows deleted: %s", r.Totals.Missing, r.Took.Round(time.Millisecond))
}
