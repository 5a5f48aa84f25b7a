package main

import (
	"fmt"
	"os"
	"runtime/pprof"
	"time"
)

// watch ends the run when a part takes longer than the limit, and first tells
// what every goroutine was waiting for: whatever hangs, it does not hang in
// silence. The servers end with this process.
func watch(part string, limit time.Duration, scratch string) (stop func()) {
	timer := time.AfterFunc(limit, func() {
		fmt.Fprintf(os.Stderr, "bench: the %s is not measured after %s; the goroutines are\n\n", part, limit)
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		_ = os.RemoveAll(scratch) // what is left of it says nothing
		os.Exit(1)
	})
	return func() { timer.Stop() }
}
