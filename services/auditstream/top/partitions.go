package top

import (
	"context"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/auditstream/auditstream/services/sink"
)

// partitions puts together what each group's partitions are like.
func (l *look) partitions() {
	for i := range l.sample.Stages {
		stage := &l.sample.Stages[i]
		owners := make(map[groupPartition]string)
		for _, instance := range stage.Instances {
			for topic, partitions := range instance.Partitions {
				for _, partition := range partitions {
					owners[groupPartition{stage.Group, topic, partition}] = instance.ClientID + "@" + instance.Host
				}
			}
		}
		for _, topic := range l.inputs(i) {
			for number, end := range l.ends[topic] {
				if number < 0 || end.Err != nil {
					continue
				}
				p := l.partition(i, end)
				p.Instance = owners[groupPartition{stage.Group, topic, number}]
				stage.Partitions = append(stage.Partitions, p)
			}
		}
	}
}

func (l *look) partition(stage int, end kadm.ListedOffset) Partition {
	p := Partition{Topic: end.Topic, Partition: end.Partition, Committed: -1}
	if offset, ok := l.committed[stage].Lookup(end.Topic, end.Partition); ok && offset.Err == nil && offset.At >= 0 {
		p.Committed = offset.At
		intent, err := sink.ReadIntent(offset.At, offset.Metadata)
		switch {
		case err != nil:
			l.problem("%s/%d: %s", end.Topic, end.Partition, err)
		case intent != nil:
			p.Intent = &Intent{
				Topic: end.Topic, Partition: end.Partition,
				From: intent.From, To: intent.To, Records: intent.Records, Attempt: intent.Attempt,
				Target: intent.Target, Since: intent.At, Seconds: l.sample.At.Sub(intent.At).Seconds(),
			}
		}
	}
	from := l.position(&p)
	if stable, ok := l.stable.Lookup(end.Topic, end.Partition); ok && stable.Err == nil {
		p.Lag.Stable = max(stable.Offset-from, 0)
	}
	p.Lag.HighWatermark = max(end.Offset-from, 0)
	return p
}

// position is where the group is in the partition: its offset, or where the log
// begins when it has none or one that the log no longer has.
func (l *look) position(p *Partition) int64 {
	from := p.Committed
	if start, ok := l.starts.Lookup(p.Topic, p.Partition); ok && start.Err == nil {
		from = max(from, start.Offset)
	}
	return max(from, 0)
}

// readAges reads, where a group is behind, the first record that it has not
// consumed.
func (l *look) readAges(ctx context.Context) {
	wanted := make(map[topicPartition][]int64)
	for i := range l.sample.Stages {
		for j := range l.sample.Stages[i].Partitions {
			if p := &l.sample.Stages[i].Partitions[j]; p.Lag.Stable > 0 {
				key := topicPartition{p.Topic, p.Partition}
				wanted[key] = append(wanted[key], l.position(p))
			}
		}
	}
	ends := make(map[topicPartition]int64, len(wanted))
	for key := range wanted {
		if stable, ok := l.stable.Lookup(key.topic, key.partition); ok {
			ends[key] = stable.Offset
		}
	}
	if err := l.ages.read(ctx, wanted, ends); err != nil {
		l.problem("read the age of what is not consumed: %s", err)
	}
	for i := range l.sample.Stages {
		for j := range l.sample.Stages[i].Partitions {
			p := &l.sample.Stages[i].Partitions[j]
			switch at, known := l.ages.of(topicPartition{p.Topic, p.Partition}, l.position(p)); {
			case p.Lag.Stable == 0 || known && at.IsZero():
				p.Lag.Seconds = new(float64)
			case known:
				seconds := max(l.sample.At.Sub(at).Seconds(), 0)
				p.Lag.Seconds = &seconds
			}
		}
	}
}

// rates compares with the sample before.
func (l *look) rates() {
	now := &snapshot{at: l.sample.At, committed: make(map[groupPartition]int64), ends: make(map[string]map[int32]int64)}
	for topic, partitions := range l.stable {
		now.ends[topic] = make(map[int32]int64)
		for partition, offset := range partitions {
			if offset.Err == nil {
				now.ends[topic][partition] = offset.Offset
			}
		}
	}
	for i := range l.sample.Stages {
		for j := range l.sample.Stages[i].Partitions {
			p := &l.sample.Stages[i].Partitions[j]
			now.committed[groupPartition{l.sample.Stages[i].Group, p.Topic, p.Partition}] = p.Committed
		}
	}
	before := l.before
	l.before = now
	if before == nil || !now.at.After(before.at) {
		return
	}
	seconds := now.at.Sub(before.at).Seconds()
	for i := range l.sample.Stages {
		stage := &l.sample.Stages[i]
		for j := range stage.Partitions {
			p := &stage.Partitions[j]
			// A group that had no offset began at 0, or has not begun.
			moved := float64(max(p.Committed, 0)-max(before.committed[groupPartition{stage.Group, p.Topic, p.Partition}], 0)) / seconds
			moved = max(moved, 0)
			p.Consumed = &moved
		}
		if outputs := l.outputs(stage.Name); len(outputs) > 0 {
			var produced float64
			for _, topic := range outputs {
				for partition, end := range now.ends[topic] {
					produced += float64(max(end-before.ends[topic][partition], 0)) / seconds
				}
			}
			stage.Produced = &produced
		}
	}
}
