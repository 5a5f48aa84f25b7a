package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/generate"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/services/auditstream/lifecycle"
	"github.com/auditstream/auditstream/services/auditstream/stack"
	"github.com/auditstream/auditstream/topics"
)

// demoStall is for how long nothing may move before the demo gives up.
const demoStall = time.Minute

// demo is one run of `auditstream demo`.
type demo struct {
	events, objectCount int
	seed                uint64
	data                string
	keep, replay        bool

	out       io.Writer
	directory string
	cfg       config.Config
	registry  *prometheus.Registry
	bucket    *bucket
	queries   queries
	dead      *deadLetters
	expected  *expected // the writer's until everything is written
	putCount  atomic.Int64
	putLines  atomic.Int64
	began     time.Time
	verdict   error // set when the demo came to its end
}

var errDemoInterrupted = errors.New("demo: interrupted")

func (a *application) demoCommand() *cobra.Command {
	d := &demo{out: a.stdout, expected: newExpected(), verdict: errDemoInterrupted}
	command := &cobra.Command{
		Use:   "demo",
		Short: "Audit logs through the whole pipeline, checked line by line",
		Long: `Starts a Kafka broker, a ClickHouse engine and an S3 server in a temporary
folder, puts generated audit logs into a bucket, runs the pipeline over them and
checks, by the ids of all rows and dead letters, that every line became exactly
one of them. Then prints what a security engineer would ask the table.

    auditstream demo
    auditstream demo --events 1000000 --seed 7
    auditstream demo --data ~/audit-logs     # your own files, as a source has them
    auditstream demo --replay                # then a new GeoIP build, a replay, and the check again

Nothing outside the folder is touched; it is removed in the end unless --keep.
Exit code 0 when everything is there once, 1 otherwise.`,
		GroupID: groupRun,
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return d.run(command.Context())
		},
	}
	flags := command.Flags()
	flags.IntVar(&d.events, "events", 120_000, "audit events to generate")
	flags.IntVar(&d.objectCount, "objects", 0, "objects to spread them over (default: one for every 2,500 events)")
	flags.Uint64Var(&d.seed, "seed", 1, "of the generated logs: the same seed, the same logs (but for the time)")
	flags.StringVar(&d.data, "data", "", "folder of audit logs to use instead of generated ones")
	flags.BoolVar(&d.replay, "replay", false, "in the end, bring in a new GeoIP build, replay, and verify again")
	flags.BoolVar(&d.keep, "keep", false, "keep the folder with broker, table and bucket")
	command.PreRunE = func(*cobra.Command, []string) error { return d.check() }
	return command
}

func (d *demo) check() error {
	var problems []config.Problem
	if d.data == "" && (d.events < 1 || d.objectCount < 0 || d.objectCount > d.events) {
		problems = append(problems, config.Problem{Key: "--events, --objects", Text: "want at least one event, and at most as many objects as events"})
	}
	if d.data != "" {
		if info, err := os.Stat(d.data); err != nil || !info.IsDir() {
			problems = append(problems, config.Problem{Key: "--data", Text: fmt.Sprintf("%q is not a folder", d.data)})
		}
	}
	if len(problems) > 0 {
		return &config.ProblemsError{Problems: problems}
	}
	return nil
}

// run does everything from an empty folder to an empty place.
func (d *demo) run(ctx context.Context) (err error) {
	d.began = time.Now()
	if d.directory, err = os.MkdirTemp("", "auditstream-demo-"); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	logPath := filepath.Join(d.directory, "demo.log")
	logFile, err := os.Create(logPath)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() {
		err = errors.Join(err, logFile.Close())
		switch {
		case d.keep:
			d.say("\nkept: %s\n", d.directory)
		case err != nil && !errors.Is(err, errDemoInterrupted):
			d.say("\nthe log of this run: %s\n", logPath)
		default:
			err = errors.Join(err, os.RemoveAll(d.directory))
		}
	}()

	geoip, err := generate.WriteGeoIP(filepath.Join(d.directory, "geoip"))
	if err != nil {
		return err
	}
	d.cfg = demoConfig(d.directory, geoip)
	log := telemetry.NewLogger(logFile, config.Log{Level: "info", Format: "text"})
	d.registry = telemetry.NewRegistry()
	d.say("auditstream demo in %s\n  starting   Kafka broker, ClickHouse engine, S3 server (the first time, npm fetches the engine)\n", d.directory)
	running, err := stack.Start(ctx, d.cfg, stack.Options{
		EmbeddedS3: true, Log: log, Registry: d.registry, Health: telemetry.NewHealth(log),
	})
	if err != nil {
		if ctx.Err() != nil {
			return errDemoInterrupted
		}
		return err
	}
	defer func() { err = errors.Join(err, running.Close()) }()
	d.cfg = running.Config()
	d.say("  started    in %s\n", d.since(d.began))

	names := topics.NewNames(d.cfg.Topics.Prefix)
	if d.dead, err = openDeadLetters(d.cfg.Kafka.Brokers, names.DeadLetter); err != nil {
		return err
	}
	defer d.dead.client.Close()
	// An idle connection left open would hold up a server's end.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	d.bucket = &bucket{client: running.S3().Client(), http: client, alias: d.cfg.S3.Alias, name: d.cfg.Sources[0].Bucket}
	database, table := clickhouse.TableName(d.cfg.ClickHouse)
	d.queries = queries{
		client:  client,
		address: d.cfg.Embedded.ClickHouseHTTPAddress,
		table:   clickhouse.Quote(database) + "." + clickhouse.Quote(table),
	}
	err = running.Run(ctx,
		lifecycle.Task{Name: "demo", Run: d.drive},
		lifecycle.Task{Name: "dead letters", Run: d.dead.follow},
	)
	if err != nil {
		return err
	}
	return d.verdict
}

// demoConfig is the configuration of `up` in another folder, on free ports.
func demoConfig(directory string, geoip []string) config.Config {
	cfg := config.Default()
	cfg.Kafka.Instance = "demo"
	cfg.Admin.Address = ""
	cfg.Enricher.GeoIP.Files = geoip
	cfg.Fetcher.Backoff = 200 * time.Millisecond
	cfg.Fetcher.Attempts = 3
	cfg.Embedded = config.Embedded{Directory: directory}
	cfg.Embedded.TakeFreePorts()
	source := config.DefaultSource()
	source.ID, source.Workspace, source.Bucket = stack.DefaultSourceID, "default", stack.DefaultBucket
	source.Listing.Interval = time.Second
	cfg.Sources = []config.Source{source}
	return cfg
}

// drive puts the objects in, waits for what must become of them, checks it and
// shows what is there. The pipeline runs beside it and stops when it returns.
func (d *demo) drive(ctx context.Context) error {
	progress := newProgress(d)
	write := d.writeGenerated
	if d.data != "" {
		write = d.writeData
	}
	writing := make(chan error, 1)
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() { writing <- write(ctx) })
	written := false
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-writing:
			if err != nil {
				return err
			}
			written = true
		case <-tick.C:
		}
		if err := progress.read(ctx); err != nil {
			if ctx.Err() != nil {
				continue
			}
			d.say("  %s\n", err)
		}
		progress.print(written)
		if !written {
			continue
		}
		complete := d.expected.complete(progress.rows, progress.deadLetters)
		if complete || progress.stalled() {
			if !complete {
				d.say("\nnothing has moved for %s; checking what is there\n", demoStall)
			}
			return d.conclude(ctx)
		}
	}
}

// conclude checks, reports and notes the verdict.
func (d *demo) conclude(ctx context.Context) error {
	took := time.Since(d.began)
	ok, err := d.compare(ctx)
	if err != nil {
		return err
	}
	if err := d.report(ctx); err != nil {
		return err
	}
	verified, err := d.verify(ctx)
	if err != nil {
		return err
	}
	d.say("\n%s lines in %s, servers' start included\n", digits.Group(d.expected.lines()), took.Round(100*time.Millisecond))
	if d.replay {
		replayed, err := d.replayWithNewPlaces(ctx)
		if err != nil {
			return err
		}
		verifiedAgain, err := d.verify(ctx)
		if err != nil {
			return err
		}
		ok, verified = ok && replayed, verified && verifiedAgain
	}
	d.goOn()
	d.verdict = nil
	if !ok || !verified {
		d.verdict = errors.New("demo: what is in ClickHouse and the dead letters is not what was put in")
	}
	return nil
}

// say writes to the terminal. One that has gone away is no reason to stop.
func (d *demo) say(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format, args...) }

func (d *demo) since(start time.Time) string {
	return time.Since(start).Round(100 * time.Millisecond).String()
}
