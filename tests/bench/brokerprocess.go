package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/auditstream/auditstream/pkg/embedded"
)

// brokerFolder makes this program a broker over the folder that it names.
const brokerFolder = "AUDITSTREAM_BENCH_BROKER"

// brokerGrace is how long a broker may take to start, and to end.
const brokerGrace = 30 * time.Second

// brokerProcess is an embedded broker in a process of its own, as brokers are:
// its memory and its garbage are not the stage's. It still takes its part of the
// same processors, so no figure gains by it.
type brokerProcess struct {
	command   *exec.Cmd
	stdin     io.Closer
	failure   strings.Builder
	address   string
	processor time.Duration // used, once it has ended
}

// serveBrokerIfAsked is a broker until standard input ends, and then exits.
func serveBrokerIfAsked() {
	folder, asked := os.LookupEnv(brokerFolder)
	if !asked {
		return
	}
	server, err := embedded.StartKafka(context.Background(), embedded.KafkaOptions{Directory: folder})
	if err == nil {
		fmt.Println(server.Addresses()[0])
		_, _ = io.Copy(io.Discard, os.Stdin)
		err = server.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func startBrokerProcess(folder string) (*brokerProcess, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this executable: %w", err)
	}
	b := &brokerProcess{command: exec.Command(executable)}
	b.command.Env = append(os.Environ(), brokerFolder+"="+folder)
	b.command.Stderr = &b.failure
	if b.stdin, err = b.command.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := b.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.command.Start(); err != nil {
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	late := time.AfterFunc(brokerGrace, func() { _ = b.command.Process.Kill() })
	defer late.Stop()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the broker: %w", err), b.close())
	}
	b.address = strings.TrimSpace(line)
	return b, nil
}

func (b *brokerProcess) close() error {
	late := time.AfterFunc(brokerGrace, func() { _ = b.command.Process.Kill() })
	defer late.Stop()
	_ = b.stdin.Close() // it ends with the process otherwise
	err := b.command.Wait()
	if state := b.command.ProcessState; state != nil {
		b.processor = state.UserTime() + state.SystemTime()
	}
	if err != nil {
		return fmt.Errorf("the broker: %w: %s", err, strings.TrimSpace(b.failure.String()))
	}
	return nil
}
