package clickhouse

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEveryColumnOfObjectsComesBack(t *testing.T) {
	cfg := testConfig(t)
	table, err := OpenObjects(cfg, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, table.Close()) }()
	require.NoError(t, table.Prepare(t.Context()))
	require.Equal(t, "default."+cfg.ObjectsTable, table.Name())
	conn := connect(t, cfg)

	row := ObjectsRow{
		WorkspaceID: "w", SourceID: "s", SourceTTL: 30, ReceivedAt: 2_700_000_000, ID: "i", Kind: "k", RecordedAt: time.Unix(5, 0), Object: "o",
		Endpoint: "e", Bucket: "b", Key: "ke", ETag: "et", Version: "v", Size: 1, Generation: 2, Splitting: "sp",
		FirstLine: 3, Lines: 4, Bytes: 5, Stage: "st", Outcome: "ou", Reason: "re", Ranges: [][2]int64{{1, 2}, {9, 1 << 40}}, Rows: 6,
		ReplayTable: "t", ReplaySince: time.UnixMilli(1001), ReplayUntil: time.UnixMilli(1002),
	}
	rows := []ObjectsRow{row, {ID: "empty", RecordedAt: time.Unix(0, 0), ReplaySince: time.UnixMilli(0), ReplayUntil: time.UnixMilli(0)}}
	for range 2 {
		inserted, err := table.Insert(t.Context(), "token", rows)
		require.NoError(t, err)
		require.Equal(t, 2, inserted.Rows)
	}
	var text string
	require.NoError(t, conn.QueryRow(t.Context(),
		"SELECT toJSONString(tuple(* REPLACE (toUnixTimestamp(receivedAt) AS receivedAt, toUnixTimestamp(recordedAt) AS recordedAt,"+
			" toUnixTimestamp64Milli(replaySince) AS replaySince, toUnixTimestamp64Milli(replayUntil) AS replayUntil))) FROM "+
			qualified(ofObjects(cfg))+" WHERE id = 'i'").Scan(&text))
	require.JSONEq(t, `["w","s",30,2700000000,"i","k",5,"o","e","b","ke","et","v",1,2,"sp",3,4,5,"st","ou","re",[[1,2],[9,1099511627776]],6,"t",1001,1002]`, text)
	require.Equal(t, uint64(2), count(t, conn, "SELECT count() FROM "+qualified(ofObjects(cfg))))

	present, err := table.Present(t.Context(), []RowKey{
		{WorkspaceID: "w", SourceID: "s", ReceivedAt: 2_700_000_000, ID: "i"}, {WorkspaceID: "w", SourceID: "s", ReceivedAt: 2_700_000_000, ID: "j"},
	})
	require.NoError(t, err)
	require.Equal(t, []bool{true, false}, present)
}
