package clickhouse

import (
	"fmt"
	"strings"

	"github.com/auditstream/auditstream/pkg/config"
)

// Quote makes name a quoted identifier.
func Quote(name string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(name) + "`"
}

// quoteText makes text a string literal.
func quoteText(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

// TableName is cfg's database and table, defaults filled in.
func TableName(cfg config.ClickHouse) (database, table string) {
	database, table = cfg.Database, cfg.Table
	if database == "" {
		database = DefaultDatabase
	}
	if table == "" {
		table = DefaultTable
	}
	return database, table
}

func qualified(cfg config.ClickHouse) string {
	database, table := TableName(cfg)
	return Quote(database) + "." + Quote(table)
}

func onCluster(cfg config.ClickHouse) string {
	if cfg.Cluster == "" {
		return ""
	}
	return " ON CLUSTER " + Quote(cfg.Cluster)
}

// Print is the DDL as one would paste it: database and tables, each statement
// ended by a semicolon.
func Print(cfg config.ClickHouse) string {
	statements := append([]string{DatabaseDDL(cfg), TableDDL(cfg), ObjectsDDL(cfg)}, DistributedDDL(cfg)...)
	if cfg.View != "" {
		statements = append(statements, ViewDDL(cfg))
	}
	return strings.Join(statements, ";\n\n") + ";\n"
}

// DatabaseDDL creates the database when it isn't there.
func DatabaseDDL(cfg config.ClickHouse) string {
	database, _ := TableName(cfg)
	return "CREATE DATABASE IF NOT EXISTS " + Quote(database) + onCluster(cfg)
}

// TableDDL creates the table when it isn't there. With a cluster the engine is
// replicated, and its path and replica come from the server's macros.
func TableDDL(cfg config.ClickHouse) string { return tableDDL(cfg, &events) }

// ObjectsDDL is TableDDL for the table of the ledger.
func ObjectsDDL(cfg config.ClickHouse) string { return tableDDL(ofObjects(cfg), &objects) }

func tableDDL(cfg config.ClickHouse, l *layout) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s%s\n(\n", qualified(cfg), onCluster(cfg))
	for _, column := range l.columns {
		fmt.Fprintf(&b, "    %s,\n", l.columnDDL(column))
	}
	b.WriteByte('\n')
	for i, index := range l.indexes {
		separator := ","
		if i == len(l.indexes)-1 {
			separator = ""
		}
		fmt.Fprintf(&b, "    %s%s\n", indexDDL(index), separator)
	}
	b.WriteString(")\n")
	engine := "ReplacingMergeTree"
	if cfg.Cluster != "" {
		engine = "ReplicatedReplacingMergeTree"
	}
	fmt.Fprintf(&b, "ENGINE = %s\n", engine)
	fmt.Fprintf(&b, "PARTITION BY %s\n", partitionKey)
	fmt.Fprintf(&b, "ORDER BY (%s)\n", sortingKey)
	fmt.Fprintf(&b, "TTL %s DELETE WHERE %s\n", ttl, ttlCondition)
	b.WriteString("SETTINGS " + strings.Join(settingsDDL(cfg.Cluster != ""), ", "))
	return b.String()
}

func (l *layout) columnDDL(column Column) string {
	comment := ""
	if text := l.comments[column.Name]; text != "" {
		comment = " COMMENT " + quoteText(text)
	}
	return fmt.Sprintf("%s %s%s CODEC(%s)", Quote(column.Name), column.Type, comment, column.Codec)
}

func indexDDL(index Index) string {
	return fmt.Sprintf("INDEX %s %s TYPE %s GRANULARITY 1", Quote(index.Name), index.Expression, index.Type)
}

func settingsDDL(replicated bool) []string {
	if replicated {
		return []string{
			fmt.Sprintf("replicated_deduplication_window = %d", deduplicationWindow),
			fmt.Sprintf("replicated_deduplication_window_seconds = %d", deduplicationWindowSeconds),
		}
	}
	return []string{fmt.Sprintf("non_replicated_deduplication_window = %d", deduplicationWindow)}
}
