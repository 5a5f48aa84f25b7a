package intake

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/topics"
)

// An event that tells of an object without bytes is not believed against the
// store: Ceph has sent such ones for uploads in parts. What has no bytes there
// either is skipped; what is gone may have had some, and is set aside.
func TestAnEventOfAnObjectWithoutBytes(t *testing.T) {
	empty := func(key, tag string) string { return strings.Replace(created(key+"="+tag), `"size":3`, `"size":0`, 1) }
	service := &fakeQueue{
		messages: map[string]string{
			"parts": empty("a", "1-2"), "gone": empty("b", "1-2"), "nothing": empty("c", etagOfNothing), "hollow": empty("hollow", "3"),
			"directory": empty("d/", "1-2"),
		},
		deleting: func(string) error { return nil },
	}
	// The store is not asked about what is empty by its ETag, or a directory.
	q, client := started(t, service, fakeStore{"b": objectstore.ErrMissing, "c": errors.New("asked"), "d/": errors.New("asked")})
	worked(t, q)
	require.Zero(t, service.left())
	require.EqualValues(t, 1, durable(t, client, "objects"))
	require.EqualValues(t, 1, durable(t, client, "deadletter"))
	require.InDelta(t, 1, number(t, q.opts.Metrics.setAside.WithLabelValues(string(topics.ReasonObjectMissing))), 0)
	require.InDelta(t, 2, number(t, q.opts.Metrics.skipped.WithLabelValues(skippedEmpty)), 0)

	told, err := Told(t.Context(), []config.Source{queueSource("a", "logs", "")}, "aws", fakeStore{}, []byte(empty("a", "1-2")))
	require.NoError(t, err)
	require.Len(t, told, 1)
	require.EqualValues(t, 1, told[0].Size)
}
