package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// exitSecondSignal is the code of a process that was told to end at once.
const exitSecondSignal = 130

// untilSignal returns a context that the first SIGTERM or SIGINT cancels. A
// second one ends the process through exit, with whatever is under way.
//
// SIGPIPE is left to whoever writes: the reader of `normalize` going away is no
// failure, and that of a log none that should stop a pipeline.
func untilSignal(stderr io.Writer, exit func(int)) (context.Context, func()) {
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	ctx, cancel := context.WithCancel(context.Background())
	ended, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for first := true; ; first = false {
			select {
			case <-ended:
				return
			case received := <-signals:
				if !first {
					exit(exitSecondSignal)
					return
				}
				cancel()
				// Best effort: the terminal may be what has gone away.
				_, _ = fmt.Fprintf(stderr, "%s: finishing what is under way; once more ends at once\n", received)
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(ended)
		<-watched
		cancel()
	}
}
