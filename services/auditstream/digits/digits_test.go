package digits

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCountsAreGroupedByThousands(t *testing.T) {
	for n, want := range map[int]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 12345: "12,345", 120000: "120,000", 1234567: "1,234,567", -1: "-1", -999: "-999", -1000: "-1,000", -1234567: "-1,234,567",
	} {
		require.Equal(t, want, Group(n))
		require.Equal(t, want, Group(int64(n)))
	}
	require.Equal(t, "18,446,744,073,709,551,615", Group(uint64(math.MaxUint64)))
	require.Equal(t, "-9,223,372,036,854,775,808", Group(int64(math.MinInt64)))
	require.Equal(t, []string{"0 rows", "1 row", "2,000 rows"}, []string{Of(0, "row"), Of(1, "row"), Of(2000, "row")})
}
