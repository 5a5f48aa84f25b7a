package stack

import (
	"context"
	"fmt"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/services/auditstream/lifecycle"
)

// NewStage makes one stage from its part of the configuration.
func NewStage(_ context.Context, stage config.Command, _ config.Config, _ Options) (lifecycle.Task, error) {
	return lifecycle.Task{}, fmt.Errorf("%s is not a stage", stage)
}
