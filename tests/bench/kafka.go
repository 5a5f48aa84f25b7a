package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/topics"
)

// broker is the broker of one measurement, with the four topics.
type broker struct {
	cfg       config.Config
	names     topics.Names
	server    *brokerProcess
	directory string
	client    *kgo.Client
	admin     *kadm.Client
}

func startBroker(ctx context.Context, o options, name string) (*broker, error) {
	directory := filepath.Join(o.scratch, "kafka-"+name)
	server, err := startBrokerProcess(directory)
	if err != nil {
		return nil, err
	}
	b := &broker{cfg: config.Default(), server: server, directory: directory}
	b.cfg.Kafka.Brokers = []string{server.address}
	b.cfg.Kafka.Instance = "bench"
	b.names = b.cfg.Topics.Names()
	options, err := b.options(o)
	if err == nil {
		err = b.makeTopics(ctx, options)
	}
	if err == nil {
		b.client, err = kgo.NewClient(options...)
	}
	if err != nil {
		return nil, errors.Join(err, server.close())
	}
	b.admin = kadm.NewClient(b.client)
	return b, nil
}

// makeTopics has a client of its own: one that has asked for topics before they
// were there goes on for a while saying that they aren't.
func (b *broker) makeTopics(ctx context.Context, options []kgo.Opt) error {
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	plan, err := topics.NewPlan(ctx, kadm.NewClient(client), b.cfg.Topics.Settings())
	if err == nil {
		err = plan.Apply(ctx)
	}
	if err != nil {
		return fmt.Errorf("make the topics: %w", err)
	}
	return nil
}

// options are those that the stages' own clients have.
func (b *broker) options(o options) ([]kgo.Opt, error) {
	options, err := kafka.Options(b.cfg.Kafka, o.log, nil)
	if err != nil {
		return nil, err
	}
	return append(options, kafka.RecordSizes(b.names, int64(b.cfg.Topics.LineLimit))...), nil
}

func (b *broker) close() error {
	b.client.Close()
	return errors.Join(b.server.close(), os.RemoveAll(b.directory))
}

// fill produces the records that record makes of 0 … n-1.
func (b *broker) fill(ctx context.Context, n int, record func(i int) (*kgo.Record, error)) error {
	failed := make(chan error, 1)
	for i := range n {
		r, err := record(i)
		if err != nil {
			return err
		}
		b.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := b.client.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return fmt.Errorf("fill a topic: %w", err)
	default:
		return nil
	}
}

// committed is how many offsets of the topic readers of committed records see:
// its records, and a marker for each transaction and partition.
func (b *broker) committed(ctx context.Context, topic string) (int, error) {
	offsets, err := b.admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("list the offsets of %s: %w", topic, err)
	}
	total := int64(0)
	offsets.Each(func(o kadm.ListedOffset) { total += o.Offset })
	return int(total), nil
}

// rate runs work until count reaches n and returns what it counted per second
// between the first and the last tenth: joining a group and closing the last
// batch don't count.
func rate(ctx context.Context, n int, count func(context.Context) (int, error), work func(context.Context) error) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- work(ctx) }()
	var first, last int
	var firstAt, lastAt time.Time
	limit := time.After(10 * time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for lastAt.IsZero() {
		select {
		case err := <-ended:
			return 0, fmt.Errorf("ended after %d of %d: %w", first, n, err)
		case <-limit:
			cancel()
			<-ended
			return 0, fmt.Errorf("not done after ten minutes: %d of %d", first, n)
		case <-tick.C:
		}
		now, err := count(ctx)
		if err != nil {
			cancel()
			return 0, errors.Join(err, <-ended)
		}
		switch {
		case firstAt.IsZero() && now >= n/10:
			first, firstAt = now, time.Now()
		case !firstAt.IsZero() && now >= n*9/10:
			last, lastAt = now, time.Now()
		}
	}
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		return 0, err
	}
	if last == first {
		return 0, errors.New("everything came at once; measure with more events")
	}
	return float64(last-first) / lastAt.Sub(firstAt).Seconds(), nil
}
