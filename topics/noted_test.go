package topics_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/topics"
)

func TestNoted(t *testing.T) {
	for _, note := range []topics.Noted{
		{Source: "a", IDs: []topics.NotedID{{1}, {15: 1}, {}}, Knows: []string{"3:10-20"}},
		{Source: "b", Last: true},
		{Void: &topics.Void{Partition: 3, From: 10, Next: 20}},
	} {
		record, err := note.Record("objects")
		require.NoError(t, err)
		require.True(t, topics.IsNoted(record))
		require.Equal(t, note.Void != nil, topics.IsVoid(record))
		got, err := topics.DecodeNoted(record.Value)
		require.NoError(t, err)
		require.Equal(t, note, got)
		_, err = topics.DecodeObject(record.Value)
		require.ErrorIs(t, err, topics.ErrMalformed, "never taken for work")
	}
	require.Equal(t, "3:10-20", (&topics.Void{Partition: 3, From: 10, Next: 20}).Name())
	for _, value := range []string{
		"", "{}", `{"version":2}`, `{"version":2,"source":"a","ids":"AAA="}`,
		`{"version":2,"source":"a","void":{"partition":1}}`,
		`{"source":"a","ids":"AAAAAAAAAAE="}`, // ids were shorter once
	} {
		_, err := topics.DecodeNoted([]byte(value))
		require.ErrorIs(t, err, topics.ErrMalformed)
	}
}
