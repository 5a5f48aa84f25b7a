// Command auditstream is the one binary: each stage by itself, all of them in
// one process (`up`), and what an operator does around them. It only wires.
package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/auditstream/auditstream/pkg/embedded"
)

func main() {
	embedded.RunChildIfAsked()
	os.Exit(run())
}

// run is main with its clean-up done before the process exits.
func run() int {
	ctx, release := untilSignal(os.Stderr, os.Exit)
	defer release()
	app := &application{
		stdin:     os.Stdin,
		stdout:    os.Stdout,
		stderr:    os.Stderr,
		environ:   os.Environ(),
		endAtOnce: func() { signal.Reset(syscall.SIGTERM, syscall.SIGINT) },
	}
	return app.execute(ctx, os.Args[1:])
}
