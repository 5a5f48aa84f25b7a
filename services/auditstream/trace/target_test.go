package trace

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/identity"
)

func TestParse(t *testing.T) {
	object := strings.Repeat("0a", 16)
	for asked, want := range map[string]target{
		object:                               {objectID: object, event: -1},
		strings.ToUpper(object):              {objectID: object, event: -1},
		identity.RowID(object, 12, 0):        {objectID: object, line: 12, event: -1},
		identity.RowID(object, 12, 3):        {objectID: object, line: 12, event: 3},
		"s3://bucket/a/b:c.log:3":            {bucket: "bucket", key: "a/b:c.log:3", event: -1},
		"f3b0c7a2-0000-4000-8000-0123456789": {auditID: "f3b0c7a2-0000-4000-8000-0123456789", event: -1},
		object[:31]:                          {auditID: object[:31], event: -1},
		strings.Repeat("z", 32):              {auditID: strings.Repeat("z", 32), event: -1},
	} {
		got, err := parse(asked)
		require.NoError(t, err, asked)
		require.Equal(t, want, got, asked)
	}
	for _, asked := range []string{"", "  ", "s3://", "s3://bucket", "s3://bucket/", "s3:///key"} {
		_, err := parse(asked)
		require.ErrorIs(t, err, ErrNoTarget, asked)
	}
}

func TestWithLine(t *testing.T) {
	for key, want := range map[string]struct {
		bare string
		line int64
		has  bool
	}{
		"a.log:3": {"a.log", 3, true}, "a.log": {"a.log", 0, false}, "a:b": {"a:b", 0, false}, "a:0": {"a:0", 0, false},
		":3": {":3", 0, false}, "a:1:2": {"a:1", 2, true}, "a:99999999999999999999": {"a:99999999999999999999", 0, false},
	} {
		bare, line, has := withLine(key)
		require.Equal(t, want.bare, bare, key)
		require.Equal(t, want.line, line, key)
		require.Equal(t, want.has, has, key)
	}
}

func TestMatches(t *testing.T) {
	object := strings.Repeat("0a", 16)
	line := target{objectID: object, line: 12, event: -1}
	require.True(t, line.matches(identity.RowID(object, 12, 0)))
	require.True(t, line.matches(identity.RowID(object, 12, 7)))
	require.False(t, line.matches(identity.RowID(object, 121, 0)))
	second := target{objectID: object, line: 12, event: 1}
	require.True(t, second.matches(identity.RowID(object, 12, 1)))
	require.False(t, second.matches(identity.RowID(object, 12, 0)))
}
