package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/pkg/failpoint"
)

// instance is one of several processes of a stage: the real binary, started
// again under the same name whenever it ends.
type instance struct {
	c     *campaign
	stage string
	name  string
	log   string

	mu      sync.Mutex
	process *stageProcess
}

// stageProcess is one run of an instance.
type stageProcess struct {
	command  *exec.Cmd
	pid      int
	client   string // its Kafka client id begins so, and no other's
	admin    string // where it answers
	order    *failpoint.Order
	expected bool // to end, by our doing; guarded by the instance's lock
	exited   chan struct{}
	err      error // read after exited
}

// spawner starts processes on one thread that lives as long as the campaign:
// a child's death signal comes when the thread that started it ends.
type spawner struct{ work chan func() }

func newSpawner() *spawner {
	s := &spawner{work: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for do := range s.work {
			do()
		}
	}()
	return s
}

func (s *spawner) start(command *exec.Cmd) error {
	done := make(chan error)
	s.work <- func() { done <- command.Start() }
	return <-done
}

func (c *campaign) newInstance(stage string, number int) *instance {
	name := stage + "-" + strconv.Itoa(number)
	return &instance{c: c, stage: stage, name: name, log: filepath.Join(c.directory, "logs", name+".log")}
}

// start runs the instance, told to end or stop at a fail point if order says so.
func (i *instance) start(order *failpoint.Order) error {
	p, err := i.spawn(order)
	if err != nil {
		return fmt.Errorf("start %s: %w", i.name, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.process = p
	return nil
}

// spawn starts one more process of the instance's name.
func (i *instance) spawn(order *failpoint.Order) (*stageProcess, error) {
	log, err := os.OpenFile(i.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress()
	if err != nil {
		return nil, err
	}
	client := fmt.Sprintf("%s.%d", i.name, i.c.sequence.Add(1))
	command := exec.Command(i.c.binary, i.stage, "--config", i.c.config)
	command.Env = append(os.Environ(), "AUDITSTREAM_ADMIN_ADDRESS="+admin,
		"AUDITSTREAM_KAFKA_INSTANCE="+i.name, "AUDITSTREAM_KAFKA_CLIENT_ID="+client, "GOMAXPROCS=2")
	if order != nil {
		order.Reached = filepath.Join(i.c.directory, "reached", fmt.Sprintf("%s-%d", i.name, i.c.sequence.Add(1)))
		text, err := json.Marshal(order)
		if err != nil {
			return nil, err
		}
		command.Env = append(command.Env, failpoint.Variable+"="+string(text))
	}
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := i.c.spawner.start(command); err != nil {
		log.Close()
		return nil, err
	}
	p := &stageProcess{command: command, pid: command.Process.Pid, client: client, admin: admin, order: order, exited: make(chan struct{})}
	fmt.Fprintf(log, "=== %s pid %d starts %s\n", time.Now().UTC().Format(time.RFC3339Nano), p.pid, describe(order))
	i.c.remember(p)
	go func() {
		defer close(p.exited)
		defer log.Close()
		p.err = command.Wait()
		fmt.Fprintf(log, "=== %s pid %d ended: %v\n", time.Now().UTC().Format(time.RFC3339Nano), p.pid, p.err)
		i.ended(p)
	}()
	return p, nil
}

func describe(order *failpoint.Order) string {
	if order == nil {
		return ""
	}
	what := "ends"
	if order.Stop {
		what = "stops"
	}
	return fmt.Sprintf("and %s at %q, time %d, after %d µs", what, order.Point, order.Hits, order.DelayMicros)
}

// ended notices processes that end by themselves, and starts them again so
// that the campaign goes on.
func (i *instance) ended(p *stageProcess) {
	i.mu.Lock()
	expected := p.expected || p.reached() && !p.order.Stop
	current := i.process == p
	i.mu.Unlock()
	if expected || i.c.over.Load() {
		return
	}
	text, _ := os.ReadFile(i.log)
	i.c.problem("%s (pid %d) ended by itself: %v\n%s", i.name, p.pid, p.err, tail(text, 1500))
	if current {
		time.Sleep(time.Second)
		if err := i.start(nil); err != nil {
			i.c.problem("%v", err)
		}
	}
}

// reached tells whether the process came to its fail point.
func (p *stageProcess) reached() bool {
	if p.order == nil {
		return false
	}
	_, err := os.Stat(p.order.Reached)
	return err == nil
}

func (i *instance) current() *stageProcess {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.process
}

func (p *stageProcess) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// kill is SIGKILL. It reports whether the process was alive.
func (i *instance) kill(p *stageProcess) bool {
	i.mu.Lock()
	p.expected = true
	i.mu.Unlock()
	if !p.alive() {
		return false
	}
	_ = syscall.Kill(p.pid, syscall.SIGKILL)
	<-p.exited
	return true
}

// terminate is SIGTERM; it returns how the process ended.
func (i *instance) terminate(p *stageProcess) error {
	i.mu.Lock()
	p.expected = true
	i.mu.Unlock()
	p.awaitListening()
	_ = syscall.Kill(p.pid, syscall.SIGTERM)
	select {
	case <-p.exited:
		return p.err
	case <-time.After(70 * time.Second):
		_ = syscall.Kill(p.pid, syscall.SIGQUIT) // says where it hangs
		select {
		case <-p.exited:
		case <-time.After(5 * time.Second):
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
			<-p.exited
		}
		return fmt.Errorf("%s did not end within 70 s of SIGTERM", i.name)
	}
}

// awaitListening waits until the process has begun its work, or ended: before
// that, a signal ends it like any program.
func (p *stageProcess) awaitListening() {
	ctx, cancel := context.WithTimeout(context.Background(), reachWithin)
	defer cancel()
	for p.alive() {
		connection, err := net.DialTimeout("tcp", p.admin, time.Second)
		if err == nil {
			_ = connection.Close()
			return
		}
		if !delay.For(ctx, 20*time.Millisecond) {
			return
		}
	}
}

// stopped tells whether a process is stopped (SIGSTOP).
func stopped(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, found := strings.Cut(string(text), ") ")
	return found && strings.HasPrefix(rest, "T")
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

func tail(text []byte, limit int) []byte {
	if len(text) > limit {
		return text[len(text)-limit:]
	}
	return text
}
