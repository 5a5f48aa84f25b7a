package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// runServer runs a clickhouse binary, which knows nothing of our pipe, below
// this process: the end of the pipe becomes a signal, and the end of this
// process the kernel's.
func runServer(order serverOrder) error {
	runtime.LockOSThread()
	command := exec.Command(order.Binary, order.Arguments...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.SysProcAttr = endWithThread()
	if err := command.Start(); err != nil {
		return fmt.Errorf("start %s: %w", order.Binary, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	parentGone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(parentGone)
	}()

	select {
	case err := <-ended:
		if err == nil {
			err = errors.New("ended unasked")
		}
		return fmt.Errorf("%s: %w", order.Binary, err)
	case <-parentGone:
	}
	if err := command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ask %s to end: %w", order.Binary, err)
	}
	select {
	case <-ended:
		return nil
	case <-time.After(childGrace):
		_ = command.Process.Kill()
		<-ended
		return fmt.Errorf("%s did not end in time and was killed", order.Binary)
	}
}
