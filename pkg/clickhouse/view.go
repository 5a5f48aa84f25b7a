package clickhouse

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditstream/auditstream/pkg/config"
)

// ViewDDL creates, or makes anew, the view that people read: each row once,
// also while some are in the table twice, as those are that a replay makes again
// until parts merge. "" without a view.
//
// A row and its twin have the same partition key, so partitions need not be
// merged with each other.
func ViewDDL(cfg config.ClickHouse) string {
	if cfg.View == "" {
		return ""
	}
	database, _ := TableName(cfg)
	return "CREATE OR REPLACE VIEW " + Quote(database) + "." + Quote(cfg.View) + onCluster(cfg) + " AS " + viewQuery(cfg)
}

const viewSettings = "do_not_merge_across_partitions_select_final = 1"

// viewTable is what the view reads: with a cluster the table over all shards. A
// row and its twin are on one shard.
func viewTable(cfg config.ClickHouse) config.ClickHouse {
	if cfg.Cluster != "" {
		return distributed(cfg)
	}
	return cfg
}

func viewQuery(cfg config.ClickHouse) string {
	cfg = viewTable(cfg)
	return "SELECT * FROM " + qualified(cfg) + " FINAL SETTINGS " + viewSettings
}

// diffView compares the view there with the one wanted. Its columns are those
// that the table had when it was made.
func diffView(ctx context.Context, conn driver.Conn, cfg config.ClickHouse) ([]Difference, error) {
	if cfg.View == "" {
		return nil, nil
	}
	database, table := TableName(cfg)
	state, found, err := inspect(ctx, conn, tableRef{database, cfg.View})
	if err != nil {
		return nil, err
	}
	want := Difference{Subject: "view " + cfg.View, Want: "the rows of " + table + ", each once", Statement: ViewDDL(cfg)}
	if !found {
		return []Difference{want}, nil
	}
	if state.engine != "View" {
		want.Have, want.Statement, want.Advice = state.engine, "", "give clickhouse.view another name"
		return []Difference{want}, nil
	}
	_, read := TableName(viewTable(cfg))
	_, query, _ := strings.Cut(state.createQuery, " AS SELECT ")
	ofTable := strings.Contains(query, " FROM "+database+"."+read+" ") || strings.Contains(query, " FROM "+Quote(database)+"."+Quote(read)+" ")
	if !ofTable || !strings.Contains(query, " FINAL") || !strings.Contains(query, viewSettings) {
		want.Have = "SELECT " + query
		return []Difference{want}, nil
	}
	have := make(map[string]string, len(state.columns))
	for _, column := range state.columns {
		have[column.name] = column.typeName
	}
	for _, column := range columns {
		if have[column.Name] != column.Type {
			want.Have = fmt.Sprintf("one whose column %s is %s", column.Name, orMissing(have[column.Name]))
			return []Difference{want}, nil
		}
	}
	return nil, nil
}
