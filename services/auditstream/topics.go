package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/stack"
	"github.com/auditstream/auditstream/topics"
)

func (a *application) topicsCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "topics",
		Short:   "Make the Kafka topics as configured",
		GroupID: groupPrepare,
		Args:    cobra.NoArgs,
		RunE:    showHelp,
	}
	command.AddCommand(a.topicsApplyCommand())
	return command
}

func (a *application) topicsApplyCommand() *cobra.Command {
	var dryRun bool
	var timeout time.Duration
	command := &cobra.Command{
		Use:   "apply",
		Short: "Create the topics, or change their settings to what is configured",
		Long: `Compares the topics objects, raw, normalized and deadletter with the section
topics of the configuration, prints what differs, and makes it so. Nothing is
ever deleted. What Kafka can't change (fewer partitions), and what must not
change (the partitions of objects: records are found by the hash of their key),
is refused with a reason, and then nothing is changed at all. Waits for brokers
that can't be reached yet.

Exit code of --dry-run: 0 when there is no difference, 1 otherwise. Needs
kafka.brokers, and the right to create and alter topics.

    auditstream topics apply --dry-run
    auditstream topics apply`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			cfg, err := a.load(config.CommandTopics)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(command.Context(), timeout)
			defer cancel()
			err = a.applyTopics(ctx, cfg, dryRun)
			if errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("no answer from Kafka at %s within %s: %w", strings.Join(cfg.Kafka.Brokers, ", "), timeout, err)
			}
			return err
		},
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be done, and do nothing")
	command.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for the brokers")
	return command
}

func (a *application) applyTopics(ctx context.Context, cfg config.Config, dryRun bool) error {
	log := telemetry.NewLogger(a.stderr, cfg.Log)
	var plan *topics.Plan
	closeClient := func() {}
	err := a.untilReached(ctx, "Kafka", func() (err error) {
		plan, closeClient, err = stack.PlanTopics(ctx, cfg, log)
		return err
	})
	if err != nil {
		return err
	}
	defer closeClient()
	conflicts := plan.Conflicts()
	if conflicts != nil && !dryRun {
		return fmt.Errorf("nothing was changed: %w", conflicts)
	}
	if err := plan.Print(a.stdout); err != nil {
		return err
	}
	switch {
	case !dryRun:
		return plan.Apply(ctx)
	case conflicts != nil:
		return conflicts
	case len(plan.Changes) > 0:
		return errSilent
	}
	return nil
}
