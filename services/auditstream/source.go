package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/source"
	"github.com/auditstream/auditstream/services/fetcher/intake"
)

func (a *application) sourceCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "source",
		Short:   "Set up and check a source's access in AWS",
		GroupID: groupPrepare,
		Args:    cobra.NoArgs,
		RunE:    showHelp,
	}
	command.AddCommand(a.sourceSetupCommand(), a.sourceCheckCommand())
	return command
}

// formats of what setup prints.
var formats = map[string]func(*source.Plan, io.Writer) error{
	"shell":     (*source.Plan).WriteShell,
	"terraform": (*source.Plan).WriteTerraform,
	"json":      (*source.Plan).WriteJSON,
}

func (a *application) sourceSetupCommand() *cobra.Command {
	var opts source.PlanOptions
	var format string
	command := &cobra.Command{
		Use:   "setup ID",
		Short: "Print what an AWS account needs for a source, ready to apply",
		Long: `Prints, for the source of that id: the SNS topic and its policy, the queue and
its policy, the bucket's notification configuration, and a role with the least
policy that the fetcher needs and a trust policy with an external id. Nothing is
connected to, and nothing is changed.

    auditstream source setup production --account 111122223333 --region eu-central-1 | less
    auditstream source setup production --account 111122223333 --region eu-central-1 | sh
    auditstream source setup production --account 111122223333 --region eu-central-1 --format terraform > audit.tf

There is one topic for all sources of a type, in the account of the bucket:
auditstream_kubernetes_audit.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, arguments []string) error {
			write, known := formats[format]
			if !known {
				return usageProblem("--format", fmt.Sprintf("%q is not one of shell, terraform, json", format))
			}
			cfg, configured, err := a.loadSource(arguments[0])
			if err != nil {
				return err
			}
			plan, err := source.NewPlan(configured, cfg.Sources, opts)
			if err != nil {
				return usageProblem("source setup", strings.ReplaceAll(err.Error(), "\n", "\n  source setup: "))
			}
			return write(&plan, a.stdout)
		},
	}
	flags := command.Flags()
	flags.StringVar(&opts.Account, "account", "", "the AWS account of the bucket (required)")
	flags.StringVar(&opts.Region, "region", "", "the region of the bucket (required)")
	flags.StringVar(&opts.TopicPrefix, "topic-prefix", source.DefaultTopicPrefix, "what the topic's name begins with")
	flags.StringVar(&opts.Principal, "principal", "", "ARN of who takes the role (default: the account itself)")
	flags.StringVar(&opts.ExternalID, "external-id", "", "external id of the role (default: the source's role.externalID)")
	flags.StringVar(&opts.KMSKey, "kms-key", "", "ARN of the key that objects are encrypted with (default: any that S3 uses)")
	flags.StringVar(&opts.MessageKey, "message-kms-key", "", "ARN of the key to encrypt topic and queue with (default: SQS's own for the queue)")
	flags.StringVar(&format, "format", "shell", "shell, terraform or json")
	return command
}

func (a *application) sourceCheckCommand() *cobra.Command {
	var timeout time.Duration
	command := &cobra.Command{
		Use:   "check ID",
		Short: "Try step by step whether a source can be read, say what is missing",
		Long: `Tries, as the fetcher would: who one is, with the source's role; the queue (its
depth, to receive, to delete); to list the bucket; to get an object; to decrypt
it. Says of each step what was found or what permission is missing.

A message that is received is back in its queue after a second, and counts as
received once more; nothing is deleted, and no object is read beyond its first byte.

Exit code 0 when nothing is missing, 1 otherwise.

    auditstream source check production`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, arguments []string) error {
			ctx, cancel := context.WithTimeout(command.Context(), timeout)
			defer cancel()
			return a.checkSource(ctx, arguments[0])
		},
	}
	command.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for all of it")
	return command
}

func (a *application) checkSource(ctx context.Context, id string) error {
	cfg, configured, err := a.loadSource(id)
	if err != nil {
		return err
	}
	store, err := objectstore.New(ctx, cfg.S3, objectstore.Options{
		Sources: cfg.Sources, StallTimeout: cfg.Fetcher.StallTimeout, Log: telemetry.NewLogger(a.stderr, cfg.Log),
	})
	if err != nil {
		return err
	}
	check := source.Check{S3: cfg.S3, Source: configured, Store: store, Identities: store.Identities()}
	if configured.Queue.URL != "" {
		check.Queue = intake.NewQueueClient(store.Identities(), &configured)
	}
	missing := 0
	table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	check.Run(ctx, func(step source.Step) {
		if step.State == source.StateMissing {
			missing++
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", step.State, step.Name, oneLine(step.Text)) // Flush tells
	})
	if err := table.Flush(); err != nil {
		return err
	}
	if missing > 0 {
		a.complain("auditstream: %d of the steps of source %s can't be done\n", missing, id)
		return errSilent
	}
	return nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// loadSource reads the configuration and finds a source in it.
func (a *application) loadSource(id string) (config.Config, config.Source, error) {
	cfg, err := a.load()
	if err != nil {
		return cfg, config.Source{}, err
	}
	var known []string
	for i := range cfg.Sources {
		if cfg.Sources[i].ID == id {
			return cfg, cfg.Sources[i], nil
		}
		known = append(known, cfg.Sources[i].ID)
	}
	if len(known) == 0 {
		return cfg, config.Source{}, usageProblem("sources", "there is none in the configuration")
	}
	return cfg, config.Source{}, usageProblem("sources", fmt.Sprintf("%q is none of %s", id, strings.Join(known, ", ")))
}

func usageProblem(key, text string) error {
	return &config.ProblemsError{Problems: []config.Problem{{Key: key, Text: text}}}
}
