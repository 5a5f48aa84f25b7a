package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/auditstream/top"
)

func (a *application) topCommand() *cobra.Command {
	var once, asJSON bool
	var interval, window time.Duration
	command := &cobra.Command{
		Use:     "top",
		Short:   "Watch lag, rates, instances and dead letters of the stages",
		GroupID: groupPrepare,
		Long: `Shows how each stage is doing, from what Kafka knows of it: its instances and
their partitions, how many records it is behind (LAG of what can be read now, LAG
TO HW of all that is there, open transactions included), the age of the oldest
record it has not consumed (BEHIND), records per second, the age of the oldest
open transaction (OPEN TXN) and of the oldest insert that a sink has begun and
not yet confirmed (OPEN INTENT), and dead letters by reason. Other groups that
begin with kafka.group are shown too.

In a terminal it refreshes: q quits, p pauses, s sorts the partitions by lag, age,
rate or name. Elsewhere, and with --once, it prints plain text; with --json one
document for each sample. Rates need two samples: --once takes its second after
--interval.

Needs kafka.brokers, and the right to describe groups and topics; without any it
looks at the pipeline that 'auditstream up' runs here.

    auditstream top
    auditstream top --once
    auditstream top --json --interval 10s | jq '.stages[].lag'`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			switch {
			case interval < minInterval:
				return usageProblem("--interval", fmt.Sprintf("%s is less than %s", interval, minInterval))
			case window < time.Second:
				return usageProblem("--window", fmt.Sprintf("%s is less than a second", window))
			}
			cfg, err := a.load()
			if err != nil {
				return err
			}
			return a.top(command.Context(), a.here(cfg), once, asJSON, interval, window)
		},
	}
	flags := command.Flags()
	flags.BoolVar(&once, "once", false, "print one sample and end")
	flags.BoolVar(&asJSON, "json", false, "print samples as JSON, a document on each line")
	flags.DurationVar(&interval, "interval", 2*time.Second, "time between samples")
	flags.DurationVar(&window, "window", 15*time.Minute, "how far back dead letters are counted")
	return command
}

// minInterval keeps the brokers from being asked all the time.
const minInterval = 100 * time.Millisecond

func (a *application) top(ctx context.Context, cfg config.Config, once, asJSON bool, interval, window time.Duration) error {
	output, isFile := a.stdout.(*os.File)
	drawn := isFile && term.IsTerminal(output.Fd()) && !once && !asJSON
	if drawn {
		cfg.Log.Level = "error" // the screen is the view's
	}
	sampler, err := top.NewSampler(top.Options{
		Kafka: cfg.Kafka, Topics: cfg.Topics.Names(), Window: window, Log: telemetry.NewLogger(a.stderr, cfg.Log),
	})
	if err != nil {
		return err
	}
	defer sampler.Close()
	where := strings.Join(cfg.Kafka.Brokers, ", ")
	if drawn {
		return top.View{Interval: interval, Where: where, Output: output, Input: a.stdin, Environ: a.environ}.Run(ctx, sampler)
	}
	return a.printSamples(ctx, sampler, where, once, asJSON, interval)
}

// samplePatience is how long the brokers may take to answer at all.
const samplePatience = 30 * time.Second

func (a *application) printSamples(
	ctx context.Context, sampler *top.Sampler, where string, once, asJSON bool, interval time.Duration,
) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for number := 1; ; number++ {
		asking, cancel := context.WithTimeout(ctx, samplePatience)
		sample, err := sampler.Sample(asking)
		cancel()
		if err != nil {
			if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("no answer from Kafka at %s within %s: %w", where, samplePatience, err)
			}
			return err
		}
		if !once || number == 2 { // of one that has rates
			if asJSON {
				err = json.NewEncoder(a.stdout).Encode(sample)
			} else {
				err = sample.Text(a.stdout, top.ByName)
			}
			if err != nil || once {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil // ended by the user, as it has to be
		case <-ticker.C:
		}
	}
}
