package split

import "github.com/twmb/franz-go/pkg/kgo"

// Partitioner sends records of objects to the partition that they name, since a
// link must come to where its announcement was; all others go the usual way.
// The transactional client produces nothing but links to objects.
func Partitioner(objects string) kgo.Partitioner {
	return &partitioner{
		objects: objects,
		named:   kgo.ManualPartitioner(),
		usual:   kgo.UniformBytesPartitioner(64<<10, true, true, nil),
	}
}

type partitioner struct {
	objects      string
	named, usual kgo.Partitioner
}

func (p *partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	if topic == p.objects {
		return p.named.ForTopic(topic)
	}
	return p.usual.ForTopic(topic)
}
