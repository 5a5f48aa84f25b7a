package intake

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// numberedID differs in its last byte: an id counts as a whole.
func numberedID(n int) objectID { return objectID{15: byte(n)} } //nolint:gosec // small

func TestAnnouncedIsTheBucketAndNoMore(t *testing.T) {
	a := newAnnounced(3)
	list := func(ids ...int) (fresh []int, kept, spilled int) {
		a.beginPass()
		for _, n := range ids {
			if !a.seen(numberedID(n)) {
				fresh = append(fresh, n)
				a.add(numberedID(n))
			}
		}
		kept, spilled = a.endPass()
		return fresh, kept, spilled
	}
	fresh, kept, spilled := list(1, 2)
	require.Equal(t, []int{1, 2}, fresh)
	require.Equal(t, []int{2, 0}, []int{kept, spilled})
	fresh, _, _ = list(1, 2)
	require.Empty(t, fresh)

	// Deleted objects are forgotten, and their room used again.
	fresh, kept, _ = list(2, 3)
	require.Equal(t, []int{3}, fresh)
	require.Equal(t, 2, kept)

	// Without room some are announced with every pass; those remembered are not.
	fresh, kept, spilled = list(2, 3, 4, 5, 6)
	require.Equal(t, []int{4, 5, 6}, fresh)
	require.Equal(t, []int{3, 2}, []int{kept, spilled})
	fresh, _, _ = list(2, 3, 4, 5, 6)
	require.Equal(t, []int{5, 6}, fresh)
}

func TestPartitionOfASourceIsStable(t *testing.T) {
	require.EqualValues(t, 3, partitionOf("cluster-a", 8))
	for _, source := range []string{"", "a", "b", "some longer id"} {
		got := partitionOf(source, 6)
		require.GreaterOrEqual(t, got, int32(0))
		require.Less(t, got, int32(6))
	}
}

func TestTermsOfOffice(t *testing.T) {
	o := newOwnership()
	none, changed := o.term(3)
	require.Zero(t, none)
	o.assigned(map[int32]int64{3: 10})
	<-changed
	one, changed := o.term(3)
	require.NotZero(t, one)
	o.revoked([]int32{3})
	<-changed
	none, _ = o.term(3)
	require.Zero(t, none)
	o.assigned(map[int32]int64{3: 10})
	two, changed := o.term(3)
	require.NotEqual(t, one, two)
	o.renew(3)
	<-changed
	three, _ := o.term(3)
	require.NotEqual(t, two, three)
	o.renew(4)
	none, _ = o.term(4)
	require.Zero(t, none, "another's")
}
