package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/telemetry"
)

func (a *application) schemaCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "schema",
		Short:   "Make, print or compare the ClickHouse tables",
		GroupID: groupPrepare,
		Args:    cobra.NoArgs,
		RunE:    showHelp,
	}
	command.AddCommand(a.schemaApplyCommand(), a.schemaPrintCommand(), a.schemaDiffCommand())
	return command
}

func (a *application) schemaApplyCommand() *cobra.Command {
	var timeout time.Duration
	command := &cobra.Command{
		Use:   "apply",
		Short: "Create the table, or add what it lacks",
		Long: `Creates the database and the table when they aren't there, and changes what can
be changed without touching rows. Nothing is ever dropped. What can't be changed
in place (the engine, a key, a column's type) is left alone and reported, with
what to do about it.

Works on every shard. Needs clickhouse.addresses or shards, and the right to create and alter the table.

    auditstream schema diff
    auditstream schema apply`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return a.withTables(command.Context(), timeout, func(ctx context.Context, table driver.Conn, cfg config.ClickHouse, say func(any) error) error {
				applied, err := clickhouse.Apply(ctx, table, cfg)
				for _, difference := range applied {
					err = errors.Join(err, say("done: "+difference.String()))
				}
				if err == nil && len(applied) == 0 {
					err = say("the table is as it should be")
				}
				return err
			})
		},
	}
	command.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the server")
	return command
}

func (a *application) schemaPrintCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "print",
		Short: "Print the table's DDL",
		Long: `Prints the DDL, to be read, or applied by other means. Takes database, table and
cluster from the section clickhouse of the configuration; connects to nothing.
With a cluster that includes the Distributed table <table>_all, to read from all
shards. The sink writes to the local tables only.

    auditstream schema print | clickhouse-client --multiquery`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.stdout, clickhouse.Print(cfg.ClickHouse))
			return err
		},
	}
}

func (a *application) schemaDiffCommand() *cobra.Command {
	var timeout time.Duration
	command := &cobra.Command{
		Use:   "diff",
		Short: "Say how the table differs from what it should be",
		Long: `Compares columns, types, engine, keys, indexes, TTL and settings of the table
with what the sink needs. Changes nothing.

Looks at every shard. Exit code 0 when there is no difference, 1 otherwise. Needs
clickhouse.addresses or shards.

    auditstream schema diff`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return a.withTables(command.Context(), timeout, func(ctx context.Context, table driver.Conn, cfg config.ClickHouse, say func(any) error) error {
				differences, err := clickhouse.Diff(ctx, table, cfg)
				if err == nil && len(differences) == 0 {
					err = say("the table is as it should be")
				}
				for _, difference := range differences {
					err = errors.Join(err, say(difference))
				}
				if err == nil && len(differences) > 0 {
					err = errSilent
				}
				return err
			})
		},
	}
	command.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the server")
	return command
}

// withTables connects to ClickHouse for one short piece of work, in each shard.
// What one shard says or lacks does not keep it from the others.
func (a *application) withTables(
	ctx context.Context, timeout time.Duration,
	work func(ctx context.Context, table driver.Conn, cfg config.ClickHouse, say func(any) error) error,
) error {
	cfg, err := a.load(config.CommandSchema)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	log := telemetry.NewLogger(a.stderr, cfg.Log)
	each := cfg.ClickHouse.PerShard()
	differs := false
	var problems []error
	for number, shard := range each {
		prefix := ""
		if len(each) > 1 {
			prefix = fmt.Sprintf("shard %d: ", number)
		}
		say := func(what any) error {
			_, err := fmt.Fprintf(a.stdout, "%s%s\n", prefix, what)
			return err
		}
		err := a.withTable(ctx, shard, log, func(table driver.Conn) error { return work(ctx, table, shard, say) })
		switch {
		case errors.Is(err, errSilent):
			differs = true
		case err != nil && prefix != "":
			problems = append(problems, fmt.Errorf("%s%w", prefix, err))
		case err != nil:
			problems = append(problems, err)
		}
	}
	if len(problems) == 0 && differs {
		return errSilent
	}
	return errors.Join(problems...)
}

func (a *application) withTable(ctx context.Context, cfg config.ClickHouse, log *slog.Logger, work func(driver.Conn) error) (err error) {
	connection, err := clickhouse.Connect(cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	err = a.untilReached(ctx, "ClickHouse", func() error {
		if err := connection.Ping(ctx); unreachable(err) {
			return fmt.Errorf("ClickHouse at %s: %w", strings.Join(cfg.Addresses, ", "), err)
		}
		return nil // what else is wrong shows in the work
	})
	if err != nil {
		return err
	}
	return work(connection)
}
