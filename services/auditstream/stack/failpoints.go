//go:build failpoints

package stack

import (
	"github.com/auditstream/auditstream/pkg/failpoint"
	"github.com/auditstream/auditstream/services/fetcher/split"
	"github.com/auditstream/auditstream/services/sink"
)

func atSplitStep(step split.Step) error {
	failpoint.Here("split " + string(step))
	return nil
}

func atSinkStep(_ int32, step sink.Step) error {
	failpoint.Here("sink " + string(step))
	return nil
}
