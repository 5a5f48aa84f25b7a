package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/deadletter"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/services/auditstream/stack"
	"github.com/auditstream/auditstream/topics"
)

func (a *application) deadLetterCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "deadletter",
		Short:   "Look at what could not be processed, and put it back",
		GroupID: groupPrepare,
		Args:    cobra.NoArgs,
		RunE:    showHelp,
	}
	command.AddCommand(a.deadLetterListCommand(), a.deadLetterShowCommand(), a.deadLetterRetryCommand())
	return command
}

// letterFlags choose dead letters.
type letterFlags struct {
	since, until, reason, stage, source, object string
	limit                                       int
}

func (f *letterFlags) add(command *cobra.Command, limit int) {
	flags := command.Flags()
	flags.StringVar(&f.since, "since", "", "only those set aside since then")
	flags.StringVar(&f.until, "until", "", "only those set aside before then")
	flags.StringVar(&f.reason, "reason", "", "only those with this reason")
	flags.StringVar(&f.stage, "stage", "", "only those of this stage")
	flags.StringVar(&f.source, "source", "", "only those of this source")
	flags.StringVar(&f.object, "object", "", "only those of this object, an id or s3://bucket/key")
	flags.IntVar(&f.limit, "limit", limit, "at most so many; 0 is all")
}

func (f *letterFlags) filter(ctx context.Context, reader deadletter.Reader) (deadletter.Filter, error) {
	filter := deadletter.Filter{Reason: topics.Reason(f.reason), Stage: f.stage, Source: f.source, Limit: f.limit}
	var err error
	if filter.Since, filter.Until, err = parseTimes(f.since, f.until, time.Now()); err != nil {
		return filter, err
	}
	if err := f.knownReason(); err != nil {
		return filter, err
	}
	switch {
	case f.limit < 0:
		return filter, usageProblem("--limit", "negative")
	case f.object == "":
	case identity.IsObjectID(f.object):
		filter.Objects = map[string]bool{f.object: true}
	default:
		if filter.Objects, err = reader.ObjectIDs(ctx, f.object); err != nil {
			return filter, err
		}
		if len(filter.Objects) == 0 {
			return filter, fmt.Errorf("no object %s is known to topic %s or %s", f.object, reader.Topics.Objects, reader.Topics.DeadLetter)
		}
	}
	return filter, nil
}

// knownReason refuses a reason that no dead letter has: a slip would look as if
// there were none of them.
func (f *letterFlags) knownReason() error {
	known := deadletter.Reasons()
	if f.reason == "" || slices.Contains(known, topics.Reason(f.reason)) {
		return nil
	}
	names := make([]string, len(known))
	for i, reason := range known {
		names[i] = string(reason)
	}
	return usageProblem("--reason", fmt.Sprintf("%q is none of %s", f.reason, strings.Join(names, ", ")))
}

// letterReader reads the topics of a configuration.
func (a *application) letterReader(cfg config.Config) deadletter.Reader {
	log := telemetry.NewLogger(a.stderr, cfg.Log)
	return deadletter.Reader{
		Client: func() ([]kgo.Opt, error) { return kafka.Options(cfg.Kafka, log, nil) },
		Topics: cfg.Topics.Names(),
	}
}

// chosenLetters loads what the command needs, and reads what of the dead letters
// the flags choose.
func (a *application) chosenLetters(
	ctx context.Context, command config.Command, choice *letterFlags,
) (cfg config.Config, reader deadletter.Reader, filter deadletter.Filter, err error) {
	if cfg, err = a.loadHere(command); err != nil {
		return cfg, reader, filter, err
	}
	reader = a.letterReader(cfg)
	filter, err = choice.filter(ctx, reader)
	return cfg, reader, filter, err
}

const timeNotes = `Times are like 2026-01-31 or 2026-01-31T12:00:00Z, or ages like 36h or 30d.`

func (a *application) deadLetterListCommand() *cobra.Command {
	var choice letterFlags
	var asJSON, summary, retried bool
	command := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, or count them by reason",
		Long: `Lists what is in the topic deadletter: where it is, when and why it was set
aside, and what it was. What was put back already is left out. Changes nothing.

` + timeNotes + ` Needs kafka.brokers.

    auditstream deadletter list --summary
    auditstream deadletter list --reason unknown-source --since 7d
    auditstream deadletter list --object s3://audit-logs/production/a.gz --json`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			_, reader, filter, err := a.chosenLetters(command.Context(), config.CommandTopics, &choice)
			if err != nil {
				return err
			}
			filter.Retried = retried
			if summary {
				return a.countLetters(command.Context(), reader, filter, asJSON)
			}
			return a.listLetters(command.Context(), reader, filter, asJSON)
		},
	}
	choice.add(command, 1000)
	flags := command.Flags()
	flags.BoolVar(&asJSON, "json", false, "print JSON, one letter in a line")
	flags.BoolVar(&summary, "summary", false, "count them by stage and reason, without a limit")
	flags.BoolVar(&retried, "retried", false, "also those that were put back")
	return command
}

func (a *application) countLetters(ctx context.Context, reader deadletter.Reader, filter deadletter.Filter, asJSON bool) error {
	filter.Limit = 0
	counts := make(deadletter.Summary)
	if err := reader.Each(ctx, filter, func(letter *deadletter.Letter) error {
		counts.Add(letter)
		return nil
	}); err != nil {
		return err
	}
	return counts.Print(a.stdout, asJSON)
}

func (a *application) listLetters(ctx context.Context, reader deadletter.Reader, filter deadletter.Filter, asJSON bool) error {
	limit := filter.Limit
	if limit > 0 {
		filter.Limit++ // to see whether there are more
	}
	var letters []*deadletter.Letter
	unnamed := make(map[string]bool)
	if err := reader.Each(ctx, filter, func(letter *deadletter.Letter) error {
		if letter.Letter.Object != "" && letter.URI == "" {
			unnamed[letter.Letter.Object] = true
		}
		letter.Letter.Bytes = nil // many of them are too much for memory
		letters = append(letters, letter)
		return nil
	}); err != nil {
		return err
	}
	more := limit > 0 && len(letters) > limit
	if more {
		letters = letters[:limit]
	}
	announced, err := reader.Announced(ctx, unnamed)
	if err != nil {
		return err
	}
	for _, letter := range letters {
		if found, known := announced[letter.Letter.Object]; known && letter.URI == "" {
			letter.URI = found.Latest.URI()
		}
	}
	if more {
		a.complain("there are more than %d; --limit 0 lists all, --summary counts them\n", limit)
	}
	if asJSON {
		return deadletter.JSON(a.stdout, letters)
	}
	return deadletter.Table(a.stdout, letters)
}

func (a *application) deadLetterShowCommand() *cobra.Command {
	var raw, asJSON bool
	command := &cobra.Command{
		Use:   "show PARTITION/OFFSET",
		Short: "Show all of one dead letter",
		Long: `Shows a dead letter with all that is known of it, and its bytes: as text, or in
hexadecimal when they are none. Needs kafka.brokers.

    auditstream deadletter show 3/4711
    auditstream deadletter show 3/4711 --raw > line.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, arguments []string) error {
			position, err := deadletter.ParsePosition(arguments[0])
			if err != nil {
				return usageProblem("deadletter show", err.Error())
			}
			cfg, err := a.loadHere(config.CommandTopics)
			if err != nil {
				return err
			}
			return a.showLetter(command.Context(), a.letterReader(cfg), position, raw, asJSON)
		},
	}
	command.Flags().BoolVar(&raw, "raw", false, "write its bytes alone, as they are")
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	command.MarkFlagsMutuallyExclusive("raw", "json")
	return command
}

func (a *application) showLetter(ctx context.Context, reader deadletter.Reader, position deadletter.Position, raw, asJSON bool) error {
	var found *deadletter.Letter
	filter := deadletter.Filter{Positions: []deadletter.Position{position}, Retried: true}
	if err := reader.Each(ctx, filter, func(letter *deadletter.Letter) error {
		found = letter
		return nil
	}); err != nil {
		return err
	}
	if raw {
		_, err := a.stdout.Write(found.Letter.Bytes)
		return err
	}
	if id := found.Letter.Object; found.URI == "" && id != "" {
		announced, err := reader.Announced(ctx, map[string]bool{id: true})
		if err != nil {
			return err
		}
		if object, known := announced[id]; known {
			found.URI = object.Latest.URI()
		}
	}
	return deadletter.Show(a.stdout, found, asJSON)
}

func (a *application) deadLetterRetryCommand() *cobra.Command {
	var choice letterFlags
	var dryRun, yes, force bool
	command := &cobra.Command{
		Use:   "retry [PARTITION/OFFSET...]",
		Short: "Put dead letters back where they came from, once",
		Long: `Puts dead letters back after what was wrong has been mended, and marks them in
the topic deadletter, in one Kafka transaction: a letter that is named twice, or
a run that is interrupted and repeated, puts it back once.

A line goes to the topic raw again and keeps its number: its row has the id that
it would have had. An object goes on after the last line that it had given. Of
a line that was over the limit the whole object is fetched again; rows that are
there collapse with themselves. A message that was no notification is read
anew. What would be set aside again by this configuration is refused, and says
why; --force puts it back all the same. What fails again is a new dead letter.

` + timeNotes + ` Needs kafka.brokers and the sources, and that
every enricher is of this version. Exit code: 1 when something was refused.

    auditstream deadletter retry --reason unknown-source --dry-run
    auditstream deadletter retry --reason unknown-source
    auditstream deadletter retry 3/4711 3/4712`,
		RunE: func(command *cobra.Command, arguments []string) error {
			var positions []deadletter.Position
			for _, argument := range arguments {
				position, err := deadletter.ParsePosition(argument)
				if err != nil {
					return usageProblem("deadletter retry", err.Error())
				}
				positions = append(positions, position)
			}
			cfg, reader, filter, err := a.chosenLetters(command.Context(), config.CommandEnricher, &choice)
			if err != nil {
				return err
			}
			filter.Positions = positions
			if !filter.Chooses() && !yes && !dryRun {
				return usageProblem("deadletter retry", "no dead letter is named; name some, choose them with flags, or put all back with --yes")
			}
			return a.retryLetters(command.Context(), cfg, reader, filter, dryRun, force)
		},
	}
	choice.add(command, 0)
	flags := command.Flags()
	flags.BoolVar(&dryRun, "dry-run", false, "say what would be put back, and put nothing back")
	flags.BoolVar(&yes, "yes", false, "put all dead letters back when none are chosen")
	flags.BoolVar(&force, "force", false, "also what would be set aside again")
	return command
}

func (a *application) retryLetters(ctx context.Context, cfg config.Config, reader deadletter.Reader, filter deadletter.Filter, dryRun, force bool) error {
	log := telemetry.NewLogger(a.stderr, cfg.Log)
	sources, err := stack.AuditSources(cfg.Sources)
	if err != nil {
		return err
	}
	var written error
	totals, err := deadletter.Retry(ctx, deadletter.Options{
		Reader: reader, Group: cfg.Kafka.Group, LineLimit: int64(cfg.Topics.LineLimit), Sources: cfg.Sources, Audit: sources,
		Store: func(ctx context.Context) (deadletter.Store, error) {
			return objectstore.New(ctx, cfg.S3, objectstore.Options{
				Sources: cfg.Sources, StallTimeout: cfg.Fetcher.StallTimeout, Log: log,
			})
		},
		Force: force, DryRun: dryRun, Log: log,
	}, filter, func(result deadletter.Result) {
		text := "to " + result.To
		if result.Note != "" {
			text += ", " + result.Note
		}
		if result.Refused != nil {
			text = "left: " + result.Refused.Error()
		}
		if _, err := fmt.Fprintf(a.stdout, "%s  %s  %s\n", result.Position, result.Letter.Letter.Reason, text); err != nil {
			written = err
		}
	})
	would := ""
	if dryRun {
		would = " (dry run: nothing was put back)"
	}
	a.complain("put back %s, left %s, put back before %s%s\n", digits.Group(totals.PutBack), digits.Group(totals.Refused), digits.Group(totals.Already), would)
	switch {
	case err != nil || written != nil:
		return errors.Join(err, written)
	case totals.Refused > 0:
		return errSilent
	}
	return nil
}
