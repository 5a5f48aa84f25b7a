package topics_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/topics"
)

func TestNoted(t *testing.T) {
	for _, note := range []topics.Noted{
		{Source: "a", IDs: []uint64{1, 1 << 63, 0}},
		{Source: "b", IDs: []uint64{}, Last: true},
	} {
		record, err := note.Record("objects")
		require.NoError(t, err)
		require.True(t, topics.IsNoted(record))
		got, err := topics.DecodeNoted(record.Value)
		require.NoError(t, err)
		require.Equal(t, note, got)
		_, err = topics.DecodeObject(record.Value)
		require.ErrorIs(t, err, topics.ErrMalformed, "never taken for work")
	}
	for _, value := range []string{"", "{}", `{"source":"a","ids":"AAA="}`} {
		_, err := topics.DecodeNoted([]byte(value))
		require.ErrorIs(t, err, topics.ErrMalformed)
	}
}
