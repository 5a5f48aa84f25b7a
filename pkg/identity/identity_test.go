package identity

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestObjectIDIsFixedForEver(t *testing.T) {
	// Ids are stored in tables for years: these values must never change.
	require.Equal(t, "9695bfa6725a834276e667a40bf19ef2", ObjectID("aws", "audit", "2026/01/01/a b+c.gz", "9b2cf535f27731c974343645a3985328"))
}

func TestObjectIDTellsPartsApart(t *testing.T) {
	seen := map[string][4]string{}
	for _, parts := range [][4]string{
		{"aws", "audit", "key", "etag"}, {"awsa", "udit", "key", "etag"}, {"aws", "auditk", "ey", "etag"},
		{"aws", "audit", "keye", "tag"}, {"aws", "audit", "key", "etag2"}, {"", "", "", ""}, {"", "a", "", ""}, {"a", "", "", ""},
	} {
		id := ObjectID(parts[0], parts[1], parts[2], parts[3])
		require.Len(t, id, ObjectIDLength)
		require.NotContains(t, seen, id)
		seen[id] = parts
	}
	require.Equal(t, ObjectID("aws", "b", "k", "e"), ObjectID("aws", "b", "k", `"e"`), "quotes of the ETag are not part of it")
}

func TestIsObjectID(t *testing.T) {
	object := ObjectID("aws", "b", "k", "e")
	require.True(t, IsObjectID(object))
	for _, text := range []string{"", object[1:], object + "0", "g" + object[1:], "A" + object[1:], "s3://bucket/a-key-of-32-bytes-ab"} {
		require.False(t, IsObjectID(text), text)
	}
}

func TestRowIDsSortInLineOrder(t *testing.T) {
	object := ObjectID("aws", "b", "k", "e")
	var inOrder []string
	for _, place := range []struct {
		line  int64
		event int
	}{{1, 0}, {1, 1}, {1, 2}, {1, 10}, {1, 999_999}, {2, 0}, {9, 0}, {10, 0}, {10, 1}, {999_999_999_999, 0}} {
		id := RowID(object, place.line, place.event)
		inOrder = append(inOrder, id)
		gotObject, line, event, err := ParseRowID(id)
		require.NoError(t, err)
		require.Equal(t, object, gotObject)
		require.Equal(t, place.line, line)
		require.Equal(t, place.event, event)
	}
	require.True(t, slices.IsSorted(inOrder), "%q", inOrder)
	require.Equal(t, object+"-000000000010.000001", inOrder[8])
}

func TestParseRowIDRefusesWhatIsNone(t *testing.T) {
	object := ObjectID("aws", "b", "k", "e")
	for _, id := range []string{"", object, object + "-", object + "-1", object + "-00000000000x", object[1:] + "-000000000001",
		object + "-000000000001.", object + "-000000000001.0", object + "-000000000001.x"} {
		_, _, _, err := ParseRowID(id)
		require.Error(t, err, id)
	}
}
