//go:build !linux

package embedded

import "syscall"

// endWithThread has no counterpart here: a clickhouse binary outlives a child
// that is itself killed by force.
func endWithThread() *syscall.SysProcAttr { return nil }
