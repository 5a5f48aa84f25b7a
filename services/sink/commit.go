package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditstream/auditstream/pkg/kafka"
)

// commit makes offset the group's position in the partition, with the intent
// (nil: none) as its metadata, and returns when the coordinator has
// acknowledged it for this partition.
//
// Only the worker commits, and the callbacks that end its assignment wait for
// it, so a commit belongs to the assignment it was begun in; one that the client
// would send as another member it does not send. One whose reply is lost is made
// again: it says the same.
func (w *worker) commit(ctx context.Context, offset int64, in *intent) error {
	m := metadata{Topic: w.topicID, Intent: in, Run: w.run}
	if in == nil {
		// After this commit nothing is intended before the hold was looked at.
		m.Hold, _ = w.shard.hold.get()
	}
	text, err := m.encode()
	if err != nil {
		return err
	}
	for try := w.tries("commit", nil); ; {
		err := w.service.committer.commit(ctx, w.member, w.partition, offset, text)
		if err == nil {
			try.succeeded()
			break
		}
		if err := try.again(ctx, fmt.Errorf("commit offset %d of %s: %w", offset, w.subject(), err)); err != nil {
			return err
		}
	}
	w.committed, w.acknowledged = offset, m.Hold
	w.unconfirmed.Store(in != nil)
	if in == nil {
		w.intentAt.Store(0)
		return nil
	}
	w.intentAt.Store(in.At)
	return w.hook(StepIntended)
}

// committer is the group's coordinator. It commits as the member given, or gives
// kafka.ErrThrownOut.
type committer interface {
	commit(ctx context.Context, member string, partition int32, offset int64, metadata string) error
}

// groupCommitter commits as the group member that client is.
type groupCommitter struct {
	client *kgo.Client
	topic  string
}

func (c groupCommitter) commit(ctx context.Context, member string, partition int32, offset int64, metadata string) error {
	ctx = kgo.PreCommitFnContext(ctx, func(request *kmsg.OffsetCommitRequest) error {
		if err := kafka.CheckMember(request.MemberID, member); err != nil {
			return err
		}
		for i := range request.Topics {
			for j := range request.Topics[i].Partitions {
				request.Topics[i].Partitions[j].Metadata = &metadata
			}
		}
		return nil
	})
	answered := false
	var failed error
	c.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{c.topic: {partition: {Epoch: -1, Offset: offset}}},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
			if err != nil {
				failed = err
				return
			}
			for _, topic := range response.Topics {
				for _, p := range topic.Partitions {
					if p.Partition == partition {
						answered = true
						failed = kerr.ErrorForCode(p.ErrorCode)
					}
				}
			}
		})
	if failed == nil && !answered {
		failed = errors.New("the coordinator did not answer for the partition")
	}
	return failed
}
