// Package failpoint names the places between two durable steps of a stage. In
// a binary built with the tag failpoints a process can be told, through its
// environment, to end or to stop at one of them as if it had crashed or hung
// there; the fault campaign does. Without the tag there is nothing to it.
package failpoint

// Variable carries, as JSON, the Order of a process built with the tag. It is no
// AUDITSTREAM_ one: those are configuration.
const Variable = "FAILPOINT_ORDER"

// Order is what a process is to do where.
type Order struct {
	Point string `json:"point"`
	Hits  int    `json:"hits"` // at which coming to the point, from 1
	// DelayMicros is how long after it; the process goes on meanwhile.
	DelayMicros int `json:"delayMicros,omitempty"`
	// Stop sends SIGSTOP instead of SIGKILL: whoever sends SIGCONT wakes a zombie.
	Stop bool `json:"stop,omitempty"`
	// Reached is a file that is created first, so that it is known why the
	// process ended.
	Reached string `json:"reached"`
}
