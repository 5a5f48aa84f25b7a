package clickhouse

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditstream/auditstream/pkg/config"
)

// DistributedSuffix makes a table's name that of the table over all shards.
const DistributedSuffix = "_all"

// DistributedDDL creates the tables that read the tables of all shards; none without a cluster.
// They have no sharding key: what is written through them would not be where
// the sink looks for it, and with several shards the server refuses it.
func DistributedDDL(cfg config.ClickHouse) []string {
	if cfg.Cluster == "" {
		return nil
	}
	return []string{distributedDDL(cfg), distributedDDL(ofObjects(cfg))}
}

func distributedDDL(cfg config.ClickHouse) string {
	database, table := TableName(cfg)
	return fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s%s AS %s\nENGINE = Distributed(%s, %s, %s)",
		qualified(distributed(cfg)), onCluster(cfg), qualified(cfg), quoteText(cfg.Cluster), quoteText(database), quoteText(table))
}

// distributed is the configuration of the table over all shards.
func distributed(cfg config.ClickHouse) config.ClickHouse {
	_, table := TableName(cfg)
	cfg.Table = table + DistributedSuffix
	return cfg
}

// diffDistributed compares the table over all shards with what it reads from.
func diffDistributed(ctx context.Context, conn driver.Conn, cfg config.ClickHouse, l *layout) ([]Difference, error) {
	if cfg.Cluster == "" {
		return nil, nil
	}
	all := distributed(cfg)
	database, name := TableName(all)
	state, found, err := inspect(ctx, conn, tableRef{database, name})
	if err != nil {
		return nil, fmt.Errorf("diff schema: %w", err)
	}
	if !found {
		return []Difference{{Subject: "table " + name, Want: "a table over all shards", Statement: distributedDDL(cfg)}}, nil
	}
	advice := "it holds no rows: drop it, and run schema apply, or give it another name and let it be"
	if state.engine != "Distributed" {
		return []Difference{{Subject: "table " + name + ", engine", Have: state.engine, Want: "Distributed", Advice: advice}}, nil
	}
	var differences []Difference
	have := make(map[string]string, len(state.columns))
	for _, column := range state.columns {
		have[column.name] = column.typeName
	}
	for _, want := range l.columns {
		subject := "table " + name + ", column " + want.Name
		switch have[want.Name] {
		case want.Type:
		case "":
			differences = append(differences, Difference{Subject: subject, Want: want.Type,
				Statement: alter(all, "ADD COLUMN IF NOT EXISTS "+Quote(want.Name)+" "+want.Type)})
		default:
			differences = append(differences, Difference{Subject: subject, Have: have[want.Name], Want: want.Type, Advice: advice})
		}
	}
	return differences, nil
}
