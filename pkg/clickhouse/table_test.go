package clickhouse

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/event"
)

func TestEveryColumnComesBack(t *testing.T) {
	cfg := testConfig(t)
	table, conn := openTable(t, cfg)
	rows := makeRows(3)
	rows[0] = event.Row{ID: "only"} // all defaults
	// As far in the future as time and TTL together fit into a DateTime: what
	// overflows counts as expired, and any merge may remove it.
	rows[1] = event.Row{
		WorkspaceID: "w", SourceID: "s", SourceType: "kubernetes-audit", SourceTTL: 18250, ReceivedAt: 2_700_000_000, ID: "i", EventTime: 1, EventName: "n", EventID: "e",
		Src:   event.Endpoint{IP: "1", ASCountryCode: "2", ASNumber: 3, ASOrganization: "4", City: "5", ConnectionType: "6", ISP: "7", Latitude: 8.5, Longitude: -9.5, UserType: "10"},
		Dst:   event.Endpoint{IP: "11", ASCountryCode: "12", ASNumber: 13, ASOrganization: "14", City: "15", ConnectionType: "16", ISP: "17", Latitude: 18.5, Longitude: -19.5, UserType: "20"},
		Actor: event.Map{{Key: "z", Value: "1"}, {Key: "a", Value: ""}}, Tags: event.Map{{Key: "", Value: "t"}}, Resources: []string{"r", ""}, ServiceName: "sn", ReadOnly: true,
		RawLog: []byte("raw\xff\x00log"), Date: 2, Stream: "st", Time: 3, Kind: "k", APIVersion: "av", Level: "l", AuditID: "au", Stage: "sg", RequestURI: "ru", Verb: "v",
		UserUsername: "uu", UserGroups: []string{"g1", "g2"}, SourceIPs: []string{"ip"}, UserAgent: "ua", ObjectRefResource: "or", ObjectRefNamespace: "on", ObjectRefName: "onm",
		ObjectRefAPIVersion: "oa", ResponseStatusMetadata: "rm", ResponseStatusCode: -1, RequestReceivedTimestamp: "rr", StageTimestamp: "stt", AuthorizationDecision: "ad", AuthorizationReason: "ar",
		Kubernetes: event.KubernetesMetadata{PodName: "k1", NamespaceName: "k2", PodID: "k3", LabelsComponent: "k4", LabelsTier: "k5", Host: "k6", ContainerName: "k7", DockerID: "k8", ContainerHash: "k9", ContainerImage: "k10"},
	}
	inserted, err := table.Insert(t.Context(), "token", rowsOf(rows))
	require.NoError(t, err)
	require.Equal(t, Inserted{Rows: 3, Proven: true}, inserted)

	var text string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT toJSONString(tuple(* EXCEPT rawLog)) FROM "+qualified(cfg)+" WHERE id = 'i'").Scan(&text))
	var values []any
	require.NoError(t, json.Unmarshal([]byte(text), &values))
	got, err := json.Marshal(values)
	require.NoError(t, err)
	require.JSONEq(t, `["w","s","kubernetes-audit",18250,"2055-07-24 00:00:00","i","1970-01-01 00:00:01","n","e",
		"1","2",3,"4","5","6","7",8.5,-9.5,"10","11","12",13,"14","15","16","17",18.5,-19.5,"20",
		{"a":"","z":"1"},{"":"t"},["r",""],"sn",true,"1970-01-01 00:00:02","st","1970-01-01 00:00:03","k","av","l","au","sg","ru","v",
		"uu",["g1","g2"],["ip"],"ua","or","on","onm","oa","rm",-1,"rr","stt","ad","ar","k1","k2","k3","k4","k5","k6","k7","k8","k9","k10"]`, string(got))
	var raw []byte
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT rawLog FROM "+qualified(cfg)+" WHERE id = 'i'").Scan(&raw))
	require.Equal(t, rows[1].RawLog, raw)
	require.Equal(t, uint64(1), count(t, conn, "SELECT count() FROM "+qualified(cfg)+" WHERE id = 'only' AND empty(actor) AND receivedAt = 0"))
}

func TestTokenDropsRepeatOverManyMonths(t *testing.T) {
	cfg := testConfig(t)
	table, conn := openTable(t, cfg)
	rows := makeRows(3000)
	for i := range rows { // 240 partitions of the table
		rows[i].SourceTTL = 0
		rows[i].ReceivedAt = uint32(time.Date(2006, time.Month(1+i%240), 1, 0, 0, 0, 0, time.UTC).Unix())
	}
	inserted, err := table.Insert(t.Context(), "token", rowsOf(rows))
	require.NoError(t, err)
	require.Equal(t, Inserted{Rows: 3000, Proven: true}, inserted)
	require.Equal(t, uint64(240), count(t, conn, "SELECT uniqExact(partition) FROM system.parts WHERE active AND table = '"+cfg.Table+"'"))

	inserted, err = table.Insert(t.Context(), "token", rowsOf(rows))
	require.NoError(t, err)
	require.False(t, inserted.Proven)
	require.GreaterOrEqual(t, inserted.Duplicates, int64(240))
	require.Equal(t, uint64(3000), count(t, conn, "SELECT count() FROM "+qualified(cfg)))

	present, err := table.Present(t.Context(), append(keysOf(rows), RowKey{"workspace", "cluster-1", rows[0].ReceivedAt, "other"}))
	require.NoError(t, err)
	for i := range rows {
		require.True(t, present[i], i)
	}
	require.False(t, present[3000])
}

func TestBatchIsOneBlock(t *testing.T) {
	cfg := testConfig(t)
	table, conn := openTable(t, cfg)
	require.NoError(t, conn.Exec(t.Context(), "SYSTEM STOP MERGES "+qualified(cfg)))
	rows := makeRows(1)
	many := make([]event.Row, 150_000)
	for i := range many {
		many[i] = event.Row{WorkspaceID: "w", SourceID: "s", ReceivedAt: rows[0].ReceivedAt, ID: fmt.Sprint(i)}
	}
	inserted, err := table.Insert(t.Context(), "token", rowsOf(many))
	require.NoError(t, err)
	require.True(t, inserted.Proven)
	require.Equal(t, uint64(1), count(t, conn, "SELECT count() FROM system.parts WHERE active AND table = '"+cfg.Table+"'"))
	present, err := table.Present(t.Context(), keysOf(many))
	require.NoError(t, err)
	for i := range present {
		require.True(t, present[i])
	}
}

func TestPresentUsesKeyAndPartitions(t *testing.T) {
	cfg := testConfig(t)
	table, conn := openTable(t, cfg)
	rows := makeRows(100_000)
	for i := range rows {
		rows[i].RawLog = nil
		rows[i].ReceivedAt += uint32(i%3) * 40 * 86400
	}
	_, err := table.Insert(t.Context(), "token", rowsOf(rows))
	require.NoError(t, err)
	before := selectedMarks(t, conn)
	present, err := table.Present(t.Context(), keysOf(rows[:3]))
	require.NoError(t, err)
	require.Equal(t, []bool{true, true, true}, present)
	require.LessOrEqual(t, selectedMarks(t, conn)-before, uint64(6))
}
