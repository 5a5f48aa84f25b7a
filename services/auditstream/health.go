package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/telemetry"
)

func (a *application) healthCommand() *cobra.Command {
	var live bool
	var timeout time.Duration
	command := &cobra.Command{
		Use:     "health",
		Short:   "Ask a running instance whether it is ready",
		GroupID: groupPrepare,
		Long: `Asks the instance that listens on admin.address whether it is ready: all that it
depends on is well. With --live it only asks whether the process runs. Meant for
a container's health check, where there is neither shell nor curl.

Exit code 0 when it is, else 1, and what is not well.

    auditstream health
    AUDITSTREAM_ADMIN_ADDRESS=127.0.0.1:9090 auditstream health --live`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			if cfg.Admin.Address == "" {
				return &config.ProblemsError{Problems: []config.Problem{{Key: "admin.address", Text: "missing: without it there is nobody to ask"}}}
			}
			path := "/readyz"
			if live {
				path = "/healthz"
			}
			ctx, cancel := context.WithTimeout(command.Context(), timeout)
			defer cancel()
			said, err := telemetry.Ask(ctx, cfg.Admin, path)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.stdout, said)
			return err
		},
	}
	command.Flags().BoolVar(&live, "live", false, "ask only whether the process runs")
	command.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long to wait for an answer")
	return command
}
