package embedded

import "syscall"

// endWithThread has the kernel kill a process when the thread that started it
// ends, which its starter must keep for itself.
func endWithThread() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
