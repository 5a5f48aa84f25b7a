package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/generate"
	"github.com/auditstream/auditstream/services/enricher"
	"github.com/auditstream/auditstream/topics"
)

// enricherPasses is how often the events are put into the topic: as many as
// there are by themselves go through while buffers are still growing.
const enricherPasses = 3

// benchEnricher compares with a program that only copies the same records from
// one topic to another in transactions of the same size, with clients of the
// same settings.
func benchEnricher(ctx context.Context, o options) ([]figure, error) {
	sample, err := lines(o.seed, generate.Mixed, o.events, 0)
	if err != nil {
		return nil, err
	}
	geoip, err := generate.WriteGeoIP(filepath.Join(o.scratch, "geoip"))
	if err != nil {
		return nil, err
	}
	events := enricherPasses * len(sample)
	var copying, enriching float64 // least processor time for an event, in µs
	measure := func(name string, round int, least *float64, work func(context.Context, *broker) error) (perSecond float64, err error) {
		b, err := startBroker(ctx, o, fmt.Sprint(name, round))
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, b.close()) }()
		err = b.fill(ctx, events, func(i int) (*kgo.Record, error) {
			line := topics.RawLine{Source: "bench", Object: benchObject, Line: int64(i + 1), ReceivedAt: 1_770_000_000_000, Bytes: sample[i%len(sample)]}
			return line.Record(b.names.Raw), nil
		})
		if err != nil {
			return 0, err
		}
		runtime.GC() // what earlier rounds left is not to be paid for by this one
		before, err := processorTime()
		if err != nil {
			return 0, err
		}
		perSecond, err = rate(ctx, events,
			func(ctx context.Context) (int, error) { return b.committed(ctx, b.names.Normalized) },
			func(ctx context.Context) error { return work(ctx, b) })
		if err != nil {
			return 0, err
		}
		after, err := processorTime()
		if spent := (after - before).Seconds() * 1e6 / float64(events); *least == 0 || spent < *least {
			*least = spent
		}
		return perSecond, err
	}
	ceiling, value, err := inTurns(o.rounds,
		func(round int) (float64, error) {
			return measure("copy", round, &copying, func(ctx context.Context, b *broker) error { return copyTopic(ctx, o, b) })
		},
		func(round int) (float64, error) {
			return measure("enricher", round, &enriching, func(ctx context.Context, b *broker) error {
				settings := b.cfg.Enricher
				settings.GeoIP.Files = geoip
				stage, err := enricher.New(enricher.Options{
					Kafka: b.cfg.Kafka, Topics: b.names, LineLimit: int64(b.cfg.Topics.LineLimit), Enricher: settings,
					Sources: map[string]*audit.Source{"bench": benchSource}, Log: o.log,
				})
				if err != nil {
					return err
				}
				return stage.Run(ctx)
			})
		})
	if err != nil {
		return nil, err
	}
	return []figure{
		{
			name: "enricher", value: value, ceiling: ceiling, unit: "events/s", ratio: value / ceiling, target: 0.5,
			against: "transactional copy of the same records (franz-go)",
		},
		{
			name: "enricher, processor time", value: enriching, unit: "µs/event",
			against: fmt.Sprintf("(the copy takes %.1f; both with their share of the broker, which is in the same process)", copying),
		},
	}, nil
}

// copyTopic is the bare loop: poll, begin, produce, end.
func copyTopic(ctx context.Context, o options, b *broker) error {
	options, err := b.options(o)
	if err != nil {
		return err
	}
	session, err := kgo.NewGroupTransactSession(append(options,
		kgo.ConsumerGroup("copy"),
		kgo.ConsumeTopics(b.names.Raw),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.TransactionalID("copy"),
		kgo.TransactionTimeout(30*time.Second),
	)...)
	if err != nil {
		return err
	}
	defer session.Close()
	for {
		fetches := session.PollRecords(ctx, b.cfg.Enricher.RecordsPerTransaction)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := fetches.Err(); err != nil {
			return err
		}
		if err := session.Begin(); err != nil {
			return err
		}
		failed := kgo.AbortingFirstErrPromise(session.Client())
		fetches.EachRecord(func(r *kgo.Record) {
			session.Produce(ctx, &kgo.Record{Topic: b.names.Normalized, Value: r.Value, Headers: r.Headers}, failed.Promise())
		})
		if _, err := session.End(context.WithoutCancel(ctx), failed.Err() == nil); err != nil {
			return err
		}
	}
}
