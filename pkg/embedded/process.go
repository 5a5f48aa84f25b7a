package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// tailBytes of a child's output are kept to say why it ended.
const tailBytes = 8 << 10

// startTimeout bounds the time from the start of a child until it answers. A
// large data folder takes long to load, so it is generous.
const startTimeout = 2 * time.Minute

// ErrAddressInUse is what a start fails with when its port is taken.
var ErrAddressInUse = errors.New("address already in use")

// process is one running child: what to wait for and how to end it.
type process struct {
	command *exec.Cmd
	output  *tail
	hold    []*os.File // our ends of the pipes the child's life hangs on
	exited  chan struct{}
	killed  bool  // by the supervisor's kill; guarded by its lock
	err     error // of Wait; read after exited is closed
}

// spawn starts this executable as a child that follows the order. title is
// what process listings show.
func spawn(order childOrder, title string) (*process, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this executable: %w", err)
	}
	text, err := json.Marshal(order)
	if err != nil {
		return nil, fmt.Errorf("encode order: %w", err)
	}

	inputReader, inputWriter, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("open pipe: %w", err)
	}
	parentReader, parentWriter, err := os.Pipe()
	if err != nil {
		inputReader.Close()
		inputWriter.Close()
		return nil, fmt.Errorf("open pipe: %w", err)
	}
	defer inputReader.Close()
	defer parentReader.Close()

	p := &process{
		output: &tail{},
		hold:   []*os.File{inputWriter, parentWriter},
		exited: make(chan struct{}),
	}
	p.command = exec.Command(executable)
	p.command.Args = []string{executable, title}
	p.command.Env = append(os.Environ(), childVariable+"="+string(text))
	p.command.Stdin = inputReader
	p.command.ExtraFiles = []*os.File{parentReader}
	p.command.Stdout = p.output
	p.command.Stderr = p.output
	p.command.SysProcAttr = ownProcessGroup()
	p.command.WaitDelay = time.Second
	if err := p.command.Start(); err != nil {
		inputWriter.Close()
		parentWriter.Close()
		return nil, fmt.Errorf("start %s: %w", title, err)
	}
	go func() {
		p.err = p.command.Wait()
		p.release()
		close(p.exited)
	}()
	return p, nil
}

// release closes our ends of the pipes, which asks the child to end.
func (p *process) release() {
	for _, file := range p.hold {
		_ = file.Close() // the second close finds it closed, which is what is wanted
	}
}

// stop asks the child to end, and kills it when it takes longer than grace.
func (p *process) stop(grace time.Duration) error {
	p.release()
	select {
	case <-p.exited:
		return nil
	case <-time.After(grace):
	}
	p.kill()
	<-p.exited
	return fmt.Errorf("did not end within %v and was killed", grace)
}

func (p *process) kill() { killGroup(p.command.Process.Pid) }

// failure says why the child ended, from what it last printed.
func (p *process) failure() error {
	said := p.output.String()
	switch {
	case strings.Contains(said, "Address already in use") || strings.Contains(said, "address already in use"):
		return fmt.Errorf("%w: %s", ErrAddressInUse, said)
	case strings.Contains(said, "No space left on device") || strings.Contains(said, "NOT_ENOUGH_SPACE"):
		return fmt.Errorf("disk is full: %s", said)
	case strings.Contains(said, "Another server instance in same directory"):
		return fmt.Errorf("its folder is in use by another running engine: %s", said)
	case p.err != nil && (said == "" || wasKilled(p.command.ProcessState)):
		// What it printed before has nothing to do with it.
		return p.err
	case p.err != nil:
		return fmt.Errorf("%w: %s", p.err, said)
	default:
		return fmt.Errorf("ended unasked: %s", said)
	}
}

// ready waits until probe succeeds, the child ends, or ctx does.
func (p *process) ready(ctx context.Context, probe func(context.Context) error) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	watching.Go(func() {
		// A probe must not outlast the child it asks.
		select {
		case <-p.exited:
			cancel()
		case <-ctx.Done():
		}
	})
	var last error
	for {
		asking, asked := context.WithTimeout(ctx, probeTimeout)
		last = probe(asking)
		asked()
		if last == nil {
			return nil
		}
		select {
		case <-p.exited:
			return p.failure()
		case <-ctx.Done():
			if p.gone() {
				return p.failure()
			}
			return fmt.Errorf("does not answer (%w): %w", last, context.Cause(ctx))
		case <-pause.C:
		}
	}
}

func (p *process) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// tail keeps the last bytes written to it.
type tail struct {
	mutex sync.Mutex
	bytes []byte
}

func (t *tail) Write(data []byte) (int, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.bytes = append(t.bytes, data...)
	if extra := len(t.bytes) - tailBytes; extra > 0 {
		t.bytes = append(t.bytes[:0], t.bytes[extra:]...)
	}
	return len(data), nil
}

func (t *tail) String() string {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return strings.TrimSpace(string(t.bytes))
}

// orDiscard makes a missing logger harmless.
func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
