package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/geo"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/services/auditstream/offline"
	"github.com/auditstream/auditstream/services/auditstream/stack"
	"github.com/auditstream/auditstream/services/fetcher/split"
)

const standardInput = "-"

type normalizeFlags struct {
	source, geoip, receivedAt string
	summary                   bool
	explain                   int64
}

func (a *application) normalizeCommand() *cobra.Command {
	var flags normalizeFlags
	command := &cobra.Command{
		Use:     "normalize [FILE…]",
		Short:   "Normalize audit logs offline: logs in, rows as JSON lines out",
		GroupID: groupPrepare,
		Long: `Reads audit logs from the files or standard input as the pipeline reads objects:
plain, gzip, zstd, bzip2, lz4 or snappy (told by content); a JSON event a line, or
pretty-printed, back to back, or in a list. Each event's 69 columns are written as
a JSON line to standard output: what the table would hold, keys in their order.

A rejected line goes to standard error as FILE:LINE: REASON: DETAIL, with the
number that its dead letter would have, and a file that breaks off with that of
the line that would have come next; the exit code is 1 when there was any.
Needs nothing; with a configuration file the source gives workspace, tags, trusted
proxies and so on. A row's id depends on the file's name and is not the one it has
in a table.

    auditstream normalize audit.log
    zcat /var/log/kubernetes/audit*.gz | auditstream normalize | jq .eventName
    auditstream normalize --source production --geoip /var/lib/GeoIP *.ndjson.gz
    auditstream normalize --explain=3 audit.log   # where line 3's columns come from`,
		Args: cobra.ArbitraryArgs,
		RunE: func(command *cobra.Command, files []string) error {
			if a.endAtOnce != nil {
				a.endAtOnce() // there is nothing to finish, and a read of a terminal can't be cancelled
			}
			return a.normalize(command.Context(), flags, files)
		},
	}
	command.Flags().StringVar(&flags.source, "source", "", "id of the configured source the lines are of (default: the only one, else none)")
	command.Flags().StringVar(&flags.geoip, "geoip", "", "directory of MaxMind databases (default: enricher.geoip of the configuration)")
	command.Flags().StringVar(&flags.receivedAt, "received-at", "",
		"when the lines were received, such as 2026-01-31T12:00:00Z (default: the file's time; of standard input, now)")
	command.Flags().BoolVar(&flags.summary, "summary", false, "say on standard error how much there was, by reason")
	command.Flags().Int64Var(&flags.explain, "explain", 0,
		"instead of rows, say for this line of each file which field every column came from (without a number: line 1)")
	command.Flags().Lookup("explain").NoOptDefVal = "1"
	return command
}

func (a *application) normalize(ctx context.Context, flags normalizeFlags, files []string) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	source, err := pickSource(cfg.Sources, flags.source)
	if err != nil {
		return err
	}
	if flags.explain < 0 {
		return flagProblem("--explain", "lines are counted from 1")
	}
	if flags.explain > 0 && len(files) > 0 {
		// The flag's number is optional, so one after a space is taken for a file.
		if _, err := strconv.ParseUint(files[0], 10, 63); err == nil {
			if _, err := os.Stat(files[0]); err != nil {
				return flagProblem("--explain", "a line's number has to be joined to it: --explain=%s", files[0])
			}
		}
	}
	var receivedAt time.Time
	if flags.receivedAt != "" {
		if receivedAt, err = time.Parse(time.RFC3339, flags.receivedAt); err != nil {
			return flagProblem("--received-at", "%q is not a time like 2026-01-31T12:00:00Z", flags.receivedAt)
		}
	}
	if flags.geoip != "" {
		cfg.Enricher.GeoIP = config.GeoIP{Directory: flags.geoip, CheckInterval: cfg.Enricher.GeoIP.CheckInterval}
		if info, err := os.Stat(flags.geoip); err != nil || !info.IsDir() {
			return flagProblem("--geoip", "%s is not a directory that can be read", flags.geoip)
		}
	}
	options := offline.Options{
		Source: source, Limits: readLimits(&cfg), Rows: a.stdout, Rejections: a.stderr,
		Explain: flags.explain,
	}
	if geoIP := cfg.Enricher.GeoIP; geoIP.Directory != "" || len(geoIP.Files) > 0 {
		databases, err := geo.New(geo.Options{
			Directory: geoIP.Directory, Files: geoIP.Files, CheckInterval: geoIP.CheckInterval,
			Log: telemetry.NewLogger(a.stderr, config.Log{Level: "warn", Format: cfg.Log.Format}),
		})
		if err != nil {
			return err
		}
		options.Locator = databases.Locator()
	}
	normalizer, err := offline.New(options)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		files = []string{standardInput}
	}
	failed := false
	for _, file := range files {
		err := a.normalizeFile(ctx, normalizer, file, receivedAt)
		var pathError *os.PathError
		switch {
		case errors.Is(err, syscall.EPIPE):
			// The reader of the rows has had enough.
			return silentIf(failed || normalizer.Rejected() > 0)
		case errors.As(err, &pathError):
			a.complain("auditstream: %s\n", err)
			failed = true // the other files are done all the same
		case err != nil:
			return err
		}
	}
	if flags.summary {
		a.complain("%s\n", summary(normalizer))
	}
	return silentIf(failed || normalizer.Rejected() > 0)
}

// summary is how much there was: 5 lines, 2 rows, 2 rejected (not-json 2).
func summary(normalizer *offline.Normalizer) string {
	text := fmt.Sprintf("%s, %s, %s rejected", digits.Of(normalizer.Lines(), "line"), digits.Of(normalizer.Events(), "row"), digits.Group(normalizer.Rejected()))
	reasons := normalizer.Reasons()
	if len(reasons) == 0 {
		return text
	}
	parts := make([]string, 0, len(reasons))
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		parts = append(parts, reason+" "+digits.Group(reasons[reason]))
	}
	return text + " (" + strings.Join(parts, ", ") + ")"
}

func silentIf(failed bool) error {
	if failed {
		return errSilent
	}
	return nil
}

func flagProblem(flag, format string, args ...any) error {
	return &config.ProblemsError{Problems: []config.Problem{{Key: flag, Text: fmt.Sprintf(format, args...)}}}
}

// readLimits are the fetcher's.
func readLimits(cfg *config.Config) split.Limits {
	return split.Limits{
		Line:      int(cfg.Topics.LineLimit),
		Size:      int64(cfg.Fetcher.MaxObjectSize),
		Expansion: int64(cfg.Fetcher.MaxExpansion),
	}
}

func (a *application) normalizeFile(ctx context.Context, normalizer *offline.Normalizer, file string, receivedAt time.Time) error {
	input := offline.Input{Name: file}
	if file == standardInput {
		input.Name = "stdin"
		input.Reader = a.stdin
		if receivedAt.IsZero() {
			receivedAt = time.Now()
		}
	} else {
		opened, err := os.Open(file)
		if err != nil {
			return err
		}
		defer opened.Close() //nolint:errcheck // only read
		info, err := opened.Stat()
		if err != nil {
			return err
		}
		if info.IsDir() {
			return &os.PathError{Op: "read", Path: file, Err: syscall.EISDIR}
		}
		input.Reader = io.Reader(opened)
		if receivedAt.IsZero() {
			receivedAt = info.ModTime()
		}
	}
	input.ReceivedAt = receivedAt.UnixMilli()
	return normalizer.Normalize(ctx, input)
}

// pickSource finds the source named id. Without an id it is the only one
// configured, or one of nothing but a name.
func pickSource(sources []config.Source, id string) (*audit.Source, error) {
	if id == "" && len(sources) != 1 {
		return &audit.Source{ID: "local", Type: stack.SourceType}, nil
	}
	for i := range sources {
		if id == "" || sources[i].ID == id {
			return stack.AuditSource(&sources[i])
		}
	}
	var known []string
	for i := range sources {
		known = append(known, sources[i].ID)
	}
	if len(known) == 0 {
		return nil, flagProblem("--source", "%q is not configured: the configuration has no sources", id)
	}
	return nil, flagProblem("--source", "%q is not configured; there are %s", id, strings.Join(known, ", "))
}
