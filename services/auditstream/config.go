package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/config"
)

func (a *application) configCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "config",
		Short:   "Check the configuration, show what is in effect",
		GroupID: groupPrepare,
		Args:    cobra.NoArgs,
		RunE:    showHelp,
	}
	command.AddCommand(a.configCheckCommand())
	return command
}

func (a *application) configCheckCommand() *cobra.Command {
	var show bool
	var forCommands []string
	command := &cobra.Command{
		Use:   "check",
		Short: "Say all that is wrong with the configuration, at once",
		Long: `Reads the configuration file and the AUDITSTREAM_ variables over it, and says
all that is wrong, each problem by its key. Nothing is connected to.

Exit code 0 when there is nothing, 2 otherwise.

    auditstream config check
    auditstream config check -c production.yaml --for fetcher,enricher,sink
    AUDITSTREAM_KAFKA_BROKERS=a:9092,b:9092 auditstream config check --print

A key kafka.clientID is the variable AUDITSTREAM_KAFKA_CLIENT_ID; a list is
separated by commas. Durations and sizes have a unit: 500ms, 30s, 7d; 64KB, 16MiB.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			commands := make([]config.Command, 0, len(forCommands))
			for _, name := range forCommands {
				commands = append(commands, config.Command(name))
			}
			cfg, err := a.load(commands...)
			if err != nil {
				return err
			}
			if a.file() == "" {
				a.complain("auditstream: there is no configuration file (%s); only the defaults and AUDITSTREAM_ variables were read\n", defaultFile)
			}
			if !show {
				_, err = fmt.Fprintln(a.stdout, "the configuration is right")
				return err
			}
			text, err := cfg.YAML()
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(text)
			return err
		},
		PreRunE: func(*cobra.Command, []string) error { return checkCommands(forCommands) },
	}
	command.Flags().BoolVar(&show, "print", false, "print the configuration in effect as YAML, secrets as [set]")
	command.Flags().StringSliceVar(&forCommands, "for", nil, "also check what these commands need: fetcher, enricher, sink, up, topics, schema")
	return command
}

func checkCommands(names []string) error {
	for _, name := range names {
		switch config.Command(name) {
		case config.CommandFetcher, config.CommandEnricher, config.CommandSink,
			config.CommandUp, config.CommandTopics, config.CommandSchema:
		default:
			return &config.ProblemsError{Problems: []config.Problem{{
				Key: "--for", Text: fmt.Sprintf("%q is not one of fetcher, enricher, sink, up, topics, schema", name),
			}}}
		}
	}
	return nil
}
