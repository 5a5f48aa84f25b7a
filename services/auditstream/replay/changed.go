package replay

import (
	"errors"
	"fmt"

	"github.com/auditstream/auditstream/services/sink"
)

// RulesChangedError is a replay that was ended in the middle of a batch, and is
// gone on with by rules that make other rows of its lines. Which of the earlier
// rows are in the table could not be told any more.
type RulesChangedError struct {
	Name      string
	Topic     string
	Partition int32
	From, To  int64 // [From, To), the batch
	Err       error
}

func (e *RulesChangedError) Error() string {
	return fmt.Sprintf("a batch of it was begun (%s/%d, offsets %d to %d), and its records now give other rows than they did then: "+
		"sources, topics.lineLimit or the version have changed. With what they were, the same command goes on to its end, "+
		"unless it has begun other batches by what they are now. To begin anew always ends it: the same command with another "+
		"--name than %s and, where it has --into, another table",
		e.Topic, e.Partition, e.From, e.To, e.Name)
}

func (e *RulesChangedError) Unwrap() error { return e.Err }

// explain says of a batch that differs what can be done: here nothing is missing,
// and going on as over a gap is not what is wanted.
func (r *replay) explain(err error) error {
	var gap *sink.GapError
	if !errors.As(err, &gap) || !gap.Differs {
		return err
	}
	return &RulesChangedError{Name: r.Name, Topic: gap.Topic, Partition: gap.Partition, From: gap.From, To: gap.To, Err: err}
}
