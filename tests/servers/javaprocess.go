package servers

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// javaProcess is a program in a process of its own that ends with this one,
// however that ends.
type javaProcess struct {
	command *exec.Cmd
	hold    io.Closer // the pipe that its life hangs on
	exited  chan struct{}
	output  string // file
}

// runWithPipe runs its arguments and kills them when standard input ends, which
// it does with this process.
const runWithPipe = `exec 3<&0
"$@" </dev/null 3<&- &
child=$!
{ cat <&3 >/dev/null; kill -9 $child; } &
wait $child`

// startJava starts a Java program whose output is added to a file.
func startJava(output string, arguments ...string) (*javaProcess, error) {
	return startProgram(output, append([]string{"java"}, arguments...)...)
}

// startProgram starts a program whose output is added to a file.
func startProgram(output string, commandLine ...string) (*javaProcess, error) {
	file, err := os.OpenFile(output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open output: %w", err)
	}
	defer file.Close()
	command := exec.Command("sh", append([]string{"-c", runWithPipe, "sh"}, commandLine...)...)
	command.Stdout, command.Stderr = file, file
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	hold, err := command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("open pipe: %w", err)
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", commandLine[0], err)
	}
	p := &javaProcess{command: command, hold: hold, exited: make(chan struct{}), output: output}
	go func() {
		_ = command.Wait() // killed, most often
		close(p.exited)
	}()
	return p, nil
}

// kill ends the program with SIGKILL and returns when it has let go of its
// address. It is the shell's child and not ours, so that there is no other way
// to wait for it.
func (p *javaProcess) kill(address string) error {
	_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL)
	<-p.exited
	_ = p.hold.Close()
	deadline := time.Now().Add(30 * time.Second)
	for {
		listener, err := net.Listen("tcp", address)
		if err == nil {
			return listener.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("killed, but still holds %s: %w", address, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// waitReady returns when probe succeeds.
func (p *javaProcess) waitReady(ctx context.Context, probe func(context.Context) error) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		asking, asked := context.WithTimeout(ctx, 2*time.Second)
		err := probe(asking)
		asked()
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			said, _ := os.ReadFile(p.output)
			return fmt.Errorf("ended while starting:\n%s", said)
		case <-ctx.Done():
			return fmt.Errorf("does not answer (%w): %w", err, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
