package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/services/auditstream/stack"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1 // it was tried and failed; of normalize: lines were rejected
	exitUsage   = 2 // a command line or configuration that can't be meant
)

// defaultFile is read when it is there and no other is named.
const defaultFile = "auditstream.yaml"

// application is what a command needs of the process around it.
type application struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	endAtOnce      func() // makes signals end the process at once; may be nil

	configFile string // flag --config

	local []string // brokers of the `up` on this machine, when no others are configured
}

// errSilent fails a command that has already said why.
var errSilent = errors.New("failed")

// execute runs the command line and returns the exit code.
func (a *application) execute(ctx context.Context, arguments []string) int {
	begun := false
	root := a.rootCommand(&begun)
	root.SetArgs(arguments)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)

	var problems *config.ProblemsError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSilent):
		return exitFailure
	case errors.As(err, &problems):
		a.complain("%s\n", problems)
		return exitUsage
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		a.complain("auditstream: interrupted\n")
		return exitFailure
	case !begun:
		a.complain("auditstream: %s\nRun 'auditstream --help', or --help after a command, for how to use it.\n", err)
		return exitUsage
	default:
		a.complain("auditstream: %s\n", err)
		if len(a.local) > 0 && unreachable(err) {
			a.complain("No brokers are configured (kafka.brokers), and no pipeline answers at %s, where 'auditstream up' has its own.\n",
				strings.Join(a.local, ", "))
		}
		return exitFailure
	}
}

// complain writes to standard error, beyond which there is no one to tell.
func (a *application) complain(format string, args ...any) {
	_, _ = fmt.Fprintf(a.stderr, format, args...)
}

// print writes a report to standard output, for people or as JSON.
func (a *application) print(report interface{ Text(to io.Writer) error }, asJSON bool) error {
	if !asJSON {
		return report.Text(a.stdout)
	}
	encoder := json.NewEncoder(a.stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
}

func (a *application) rootCommand(begun *bool) *cobra.Command {
	root := &cobra.Command{
		Use:   "auditstream",
		Short: "Kubernetes audit logs from S3 through Kafka to ClickHouse, exactly once",
		Long: `auditstream carries Kubernetes audit logs from S3 to ClickHouse, through Kafka,
exactly once: every line of every object becomes one row of one normalized
table, or one dead letter with a reason, whatever crashes on the way.

    S3 ──▶ fetcher ──▶ Kafka ──▶ enricher ──▶ Kafka ──▶ sink ──▶ ClickHouse

To try it, with nothing installed around it:

    auditstream up

To run it against your own Kafka, ClickHouse and S3, write auditstream.yaml, then

    auditstream config check      # says all that is wrong with it, at once
    auditstream topics apply      # makes the Kafka topics
    auditstream schema apply      # makes the ClickHouse table
    auditstream fetcher           # then each stage by itself, as many instances
    auditstream enricher          # as there are partitions
    auditstream sink`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          showHelp,
		// Runs when flags and arguments of the command were found right: what
		// fails from here on is not a matter of usage.
		PersistentPreRun: func(*cobra.Command, []string) { *begun = true },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVarP(&a.configFile, "config", "c", "",
		"configuration file (default: $"+config.FileVariable+", else ./"+defaultFile+" when it is there)")
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run the pipeline:"},
		&cobra.Group{ID: groupPrepare, Title: "Prepare and look:"},
	)
	root.AddCommand(
		a.upCommand(),
		a.demoCommand(),
		a.fetcherCommand(),
		a.enricherCommand(),
		a.sinkCommand(),
		a.topicsCommand(),
		a.schemaCommand(),
		a.sourceCommand(),
		a.backfillCommand(),
		a.deadLetterCommand(),
		a.replayCommand(),
		a.topCommand(),
		a.traceCommand(),
		a.healthCommand(),
		a.verifyCommand(),
		a.configCommand(),
		a.normalizeCommand(),
		a.versionCommand(),
	)
	return root
}

const (
	groupRun     = "run"
	groupPrepare = "prepare"
)

func showHelp(command *cobra.Command, _ []string) error { return command.Help() }

// file is the configuration file to read; none is "".
func (a *application) file() string {
	if a.configFile != "" {
		return a.configFile
	}
	if named := a.variable(config.FileVariable); named != "" {
		return named
	}
	if _, err := os.Stat(defaultFile); err == nil {
		return defaultFile
	}
	return ""
}

func (a *application) variable(name string) string {
	for _, entry := range slices.Backward(a.environ) {
		if value, found := strings.CutPrefix(entry, name+"="); found {
			return value
		}
	}
	return ""
}

// load reads the configuration and checks what the commands need of it.
func (a *application) load(commands ...config.Command) (config.Config, error) {
	return config.Load(a.file(), a.environ, commands...)
}

// loadHere is load for commands that work on a running pipeline. Without
// brokers in the configuration that is the one that `up` runs on this machine.
func (a *application) loadHere(commands ...config.Command) (config.Config, error) {
	cfg, err := a.load()
	if err != nil {
		return cfg, err
	}
	if len(cfg.Kafka.Brokers) == 0 {
		return a.here(cfg), nil
	}
	return a.load(commands...)
}

// here is stack.Here, and remembers that nobody named the brokers.
func (a *application) here(cfg config.Config) config.Config {
	named := len(cfg.Kafka.Brokers) > 0
	cfg = stack.Here(cfg)
	if !named {
		a.local = cfg.Kafka.Brokers
	}
	return cfg
}
