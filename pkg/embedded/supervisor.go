package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	firstRestartDelay = 50 * time.Millisecond
	maxRestartDelay   = 5 * time.Second
	// steadyAfter is how long a child must have lived for its next death to
	// count as the first again.
	steadyAfter = 30 * time.Second
	// stopGrace is how long Close lets a child end by itself. It is longer
	// than the child's own limit, so that the child's reason is the one seen.
	stopGrace = childGrace + 2*time.Second
)

// supervisor keeps one child alive: it starts it, starts it again when it
// dies, and ends it on close. One goroutine owns the child; the others ask
// under the lock.
type supervisor struct {
	name      string
	spawn     func() (*process, error)
	probe     func(context.Context) error
	onRestart func()
	log       *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // closed when the goroutine has ended

	mutex    sync.Mutex
	current  *process // nil while none runs
	up       chan struct{}
	restarts int
	closeErr error
}

// superviseChild starts the child and returns when it answers.
func superviseChild(ctx context.Context, s *supervisor) error {
	s.up = make(chan struct{})
	s.done = make(chan struct{})
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p, err := s.start(ctx)
	if err != nil {
		s.cancel()
		return err
	}
	s.setUp(p)
	go s.run(p)
	return nil
}

func (s *supervisor) start(ctx context.Context) (*process, error) {
	p, err := s.spawn()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	s.mutex.Lock()
	s.current = p
	s.mutex.Unlock()
	if err := p.ready(ctx, s.probe); err != nil {
		p.kill()
		<-p.exited
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	return p, nil
}

func (s *supervisor) run(p *process) {
	defer close(s.done)
	delay := firstRestartDelay
	started := time.Now()
	for {
		select {
		case <-s.ctx.Done():
			if err := p.stop(stopGrace); err != nil {
				s.closeErr = fmt.Errorf("stop %s: %w", s.name, err)
			}
			return
		case <-p.exited:
		}
		s.setDown()
		s.log.Warn(s.name+" died and is being restarted", "pid", p.command.Process.Pid, "reason", p.failure())
		if time.Since(started) > steadyAfter {
			delay = firstRestartDelay
		}
		if p = s.restart(&delay); p == nil {
			return
		}
		started = time.Now()
		s.setUp(p)
		s.log.Info(s.name+" is back", "pid", p.command.Process.Pid)
		if s.onRestart != nil {
			s.onRestart()
		}
	}
}

// restart tries until a child answers or the supervisor is closed (nil). The
// same failure is logged once.
func (s *supervisor) restart(delay *time.Duration) *process {
	logged := ""
	for {
		select {
		case <-s.ctx.Done():
			return nil
		case <-time.After(*delay):
		}
		*delay = min(2**delay, maxRestartDelay)
		p, err := s.start(s.ctx)
		if err == nil {
			s.mutex.Lock()
			s.restarts++
			s.mutex.Unlock()
			return p
		}
		if s.ctx.Err() == nil && err.Error() != logged {
			logged = err.Error()
			s.log.Error(s.name+" does not restart, trying on", "error", err)
		}
	}
}

func (s *supervisor) setUp(p *process) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.current = p
	// A child killed between its first answer and here is not up, although
	// run has yet to notice.
	if !p.killed {
		close(s.up)
	}
}

func (s *supervisor) setDown() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.current = nil
	select {
	case <-s.up:
		s.up = make(chan struct{})
	default: // kill was here before
	}
}

// kill sends SIGKILL and returns when the child is gone. From then on
// waitReady waits for the next one.
func (s *supervisor) kill() error {
	s.mutex.Lock()
	p := s.current
	if p == nil {
		s.mutex.Unlock()
		return fmt.Errorf("kill %s: none is running", s.name)
	}
	p.killed = true
	select {
	case <-s.up:
		s.up = make(chan struct{})
	default:
	}
	s.mutex.Unlock()
	p.kill()
	<-p.exited
	return nil
}

// waitReady returns when a child runs and answers.
func (s *supervisor) waitReady(ctx context.Context) error {
	s.mutex.Lock()
	up := s.up
	s.mutex.Unlock()
	select {
	case <-up:
		return nil
	case <-s.done:
		return fmt.Errorf("wait for %s: %w", s.name, errClosed)
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", s.name, context.Cause(ctx))
	}
}

func (s *supervisor) pid() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.current == nil {
		return 0
	}
	return s.current.command.Process.Pid
}

func (s *supervisor) restartCount() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.restarts
}

// close ends the child and waits for it. It may be called more than once.
func (s *supervisor) close() error {
	s.cancel()
	<-s.done
	return s.closeErr
}

var errClosed = errors.New("closed")
