// Command chaos is the fault campaign: the stages as real processes, several of
// each, on real servers, while numbered lines flow through them and everything
// is killed, stopped, cut off, delayed and refused. When it is over, each line
// must have come out once.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/auditstream/auditstream/pkg/embedded"
)

func main() {
	runBrokerIfAsked()
	embedded.RunChildIfAsked()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := command(ctx, os.Args[1:])
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	minutes := flags.Float64("minutes", 3, "how long faults happen")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()%1_000_000), "of the faults and the lines")
	kafka := flags.String("kafka", "kfake", "kfake or apache")
	rate := flags.Int("rate", 3_000, "lines per second at most")
	settle := flags.Duration("settle", 5*time.Minute, "for everything to come through when the faults have ended")
	directory := flags.String("directory", "", "for data and logs (default: a temporary one)")
	keep := flags.Bool("keep", false, "keep the directory also when nothing is wrong")
	level := flags.String("log-level", "info", "of the stages")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	return campaignOnce(ctx, options{
		kafka: *kafka, duration: time.Duration(*minutes * float64(time.Minute)), settle: *settle, seed: *seed, rate: *rate,
		directory: *directory, keep: *keep, logLevel: *level, short: *minutes < 4, out: os.Stdout,
	})
}

// campaignOnce runs one campaign and says what came of it. Its error is nil
// only when every line is there, once, and every fault fired.
func campaignOnce(ctx context.Context, o options) (err error) {
	if o.directory == "" {
		if o.directory, err = os.MkdirTemp("", "auditstream-chaos-"); err != nil {
			return err
		}
	}
	if o.directory, err = filepath.Abs(o.directory); err != nil {
		return err
	}
	fmt.Fprintf(o.out, "chaos: %s of faults, seed %d, kafka %s, logs in %s\n", o.duration, o.seed, o.kafka, o.directory)
	starting, started := context.WithTimeout(ctx, 10*time.Minute)
	c, err := newCampaign(starting, o)
	started()
	defer func() {
		if closed := c.close(); err == nil && closed != nil {
			err = fmt.Errorf("end the servers: %w", closed)
		}
		if err == nil && !o.keep {
			err = os.RemoveAll(o.directory)
		}
	}()
	if err != nil {
		return err
	}
	found, err := c.run(ctx)
	if err != nil {
		return fmt.Errorf("seed %d: %w\n%s", o.seed, err, strings.Join(c.problems, "\n"))
	}
	return c.report(ctx, found)
}
