package intake

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/topics"
)

// WriteVoid tells every reader of `objects` that a range of it was passed over
// unread, so that no listing takes for announced what was in there. Only when
// that is durable may the group go on after the range: then it is not known any
// more that something is missing. The client must let records name their partition.
//
// It is written to every partition, twice. Whoever reads the log back because of
// the second finds the first in all of them.
func WriteVoid(ctx context.Context, client *kgo.Client, topic string, partitions int32, void topics.Void) error {
	for range 2 {
		records := make([]*kgo.Record, 0, partitions)
		for partition := range partitions {
			record, err := (&topics.Noted{Void: &void}).Record(topic)
			if err != nil {
				return err
			}
			record.Partition = partition
			records = append(records, record)
		}
		if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return fmt.Errorf("write that offsets %d to %d of %s/%d are missing: %w", void.From, void.Next, topic, void.Partition, err)
		}
	}
	return nil
}

// Voided is told of a void in a partition of `objects`: what is known of the
// sources that go with the partition has to be read from the log anew.
func (l *Listing) Voided(partition int32) { l.owner.renew(partition) }
