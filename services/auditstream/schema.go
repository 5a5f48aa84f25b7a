package main

import (
	"context"
	"errors"
	"fmt"
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
		Short:   "Make, print or compare the ClickHouse table",
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

Needs clickhouse.addresses, and the right to create and alter the table.

    auditstream schema diff
    auditstream schema apply`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return a.withTable(command.Context(), timeout, func(ctx context.Context, table driver.Conn, cfg config.ClickHouse) error {
				applied, err := clickhouse.Apply(ctx, table, cfg)
				for _, difference := range applied {
					if _, printErr := fmt.Fprintf(a.stdout, "done: %s\n", difference); printErr != nil {
						return errors.Join(err, printErr)
					}
				}
				if err == nil && len(applied) == 0 {
					_, err = fmt.Fprintln(a.stdout, "the table is as it should be")
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

Exit code 0 when there is no difference, 1 otherwise. Needs clickhouse.addresses.

    auditstream schema diff`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return a.withTable(command.Context(), timeout, func(ctx context.Context, table driver.Conn, cfg config.ClickHouse) error {
				differences, err := clickhouse.Diff(ctx, table, cfg)
				if err != nil {
					return err
				}
				if len(differences) == 0 {
					_, err = fmt.Fprintln(a.stdout, "the table is as it should be")
					return err
				}
				for _, difference := range differences {
					if _, err := fmt.Fprintln(a.stdout, difference); err != nil {
						return err
					}
				}
				return errSilent
			})
		},
	}
	command.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the server")
	return command
}

// withTable connects to ClickHouse for one short piece of work.
func (a *application) withTable(
	ctx context.Context, timeout time.Duration,
	work func(context.Context, driver.Conn, config.ClickHouse) error,
) (err error) {
	cfg, err := a.load(config.CommandSchema)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	connection, err := clickhouse.Connect(cfg.ClickHouse, telemetry.NewLogger(a.stderr, cfg.Log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	err = a.untilReached(ctx, "ClickHouse", func() error {
		if err := connection.Ping(ctx); unreachable(err) {
			return fmt.Errorf("ClickHouse at %s: %w", strings.Join(cfg.ClickHouse.Addresses, ", "), err)
		}
		return nil // what else is wrong shows in the work
	})
	if err != nil {
		return err
	}
	return work(ctx, connection, cfg.ClickHouse)
}
