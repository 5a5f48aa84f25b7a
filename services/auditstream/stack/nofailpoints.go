//go:build !failpoints

package stack

import (
	"github.com/auditstream/auditstream/services/fetcher/split"
	"github.com/auditstream/auditstream/services/sink"
)

// The hooks of the stages' steps; only a binary built for the fault campaign
// has any.
var (
	atSplitStep func(split.Step) error
	atSinkStep  func(int32, sink.Step) error
)
