//go:build unix

package embedded

import (
	"os"
	"syscall"
)

// ownProcessGroup keeps a terminal's Ctrl-C from reaching the child: the
// parent finishes its batch first, and needs the child for it.
func ownProcessGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// killGroup ends a child and what it started.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

func killSelf() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }

// wasKilled says whether a process was ended by force from outside.
func wasKilled(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
