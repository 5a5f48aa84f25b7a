package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/telemetry"
)

func (a *application) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print version, commit, Go version and platform",
		Long:    "Prints what this binary was made from, as the Go tool recorded it.",
		GroupID: groupPrepare,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			build := telemetry.ReadBuild()
			commit := build.Revision
			if build.Time != "" {
				commit += " of " + build.Time
			}
			_, err := fmt.Fprintf(a.stdout, "auditstream %s\ncommit      %s\ngo          %s\nplatform    %s\n",
				build.Version, commit, build.Go, build.Platform)
			return err
		},
	}
}
