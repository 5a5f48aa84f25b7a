// Package enricher is the stage between the topics `raw` and `normalized`: each
// raw line becomes rows, with the places of their addresses, or a dead letter,
// or a counted skip. Lines and outcomes are joined by Kafka transactions: an
// outcome is there if and only if its line counts as consumed.
package enricher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/geo"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/topics"
)

// Stage names the enricher in metrics, dead letters and its group.
const Stage = "enricher"

// Options are the configuration and what the enricher depends on.
type Options struct {
	Kafka     config.Kafka
	Topics    topics.Names
	LineLimit int64 // of the configuration; the topics' sizes follow from it
	Enricher  config.Enricher
	// Sources by id. A line of any other is a dead letter.
	Sources map[string]*audit.Source

	Health     kafka.Health // optional
	Log        *slog.Logger
	Registerer prometheus.Registerer // optional
}

// Enricher is the stage.
type Enricher struct {
	databases    *geo.Databases
	transactions *kafka.Transactions
	metrics      *metrics
	work         *work
}

// New checks everything and opens the GeoIP databases. It talks to no broker.
func New(opts Options) (*Enricher, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	log := opts.Log.With("stage", Stage)
	if opts.Topics.Raw == "" || opts.Topics.Normalized == "" || opts.Topics.DeadLetter == "" || opts.Topics.Ledger == "" {
		return nil, errors.New("enricher: the topics have no names")
	}
	if opts.LineLimit <= 0 {
		return nil, errors.New("enricher: topics.lineLimit must be positive")
	}
	instance, err := opts.Kafka.InstanceName()
	if err != nil {
		return nil, fmt.Errorf("enricher: kafka.instance is not set, and the host has no name: %w", err)
	}
	concurrency := opts.Enricher.Concurrency
	if concurrency <= 0 {
		concurrency = runtime.GOMAXPROCS(0)
	}
	client, err := kafka.Options(withClientID(opts.Kafka), log, opts.Registerer)
	if err != nil {
		return nil, fmt.Errorf("enricher: %w", err)
	}
	e := &Enricher{}
	if e.metrics, err = newMetrics(opts.Registerer); err != nil {
		return nil, fmt.Errorf("enricher: %w", err)
	}
	e.databases, err = geo.New(geo.Options{
		Directory:     opts.Enricher.GeoIP.Directory,
		Files:         opts.Enricher.GeoIP.Files,
		CheckInterval: opts.Enricher.GeoIP.CheckInterval,
		Log:           log,
		Registerer:    opts.Registerer,
	})
	if err != nil {
		return nil, fmt.Errorf("enricher: %w", err)
	}
	e.work = newWork(opts, concurrency, func() audit.Locator { return e.databases.Locator() }, e.metrics)
	e.transactions, err = kafka.NewTransactions(kafka.TransactionOptions{
		Client:     append(client, kafka.RecordSizes(opts.Topics, opts.LineLimit)...),
		Group:      opts.Kafka.Group + "-" + Stage,
		Instance:   instance,
		Topics:     []string{opts.Topics.Raw},
		Timeout:    opts.Kafka.TransactionTimeout,
		MaxRecords: opts.Enricher.RecordsPerTransaction,
		Start: kafka.StartPolicy{
			// Dead letters come from other stages as well, rows only from here.
			OutputTopics: []string{opts.Topics.Normalized},
			AcceptGap:    opts.Kafka.AcceptGap,
		},
		OnAbort:    e.work.abandon,
		OnCommit:   e.work.settle,
		Health:     opts.Health,
		Log:        log,
		Registerer: opts.Registerer,
		Stage:      Stage,
	})
	if err != nil {
		return nil, fmt.Errorf("enricher: %w", err)
	}
	return e, nil
}

func withClientID(cfg config.Kafka) config.Kafka {
	if cfg.ClientID != "" {
		cfg.ClientID += "-" + Stage
	}
	return cfg
}

// Run works until ctx is done.
func (e *Enricher) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return e.databases.Run(ctx) })
	group.Go(func() error { return e.transactions.Run(ctx, e.enrich) })
	err := group.Wait()
	if err != nil {
		return fmt.Errorf("enricher: %w", err)
	}
	return nil
}

// enrich is one transaction's work. The durable steps around it:
//
//	the broker has the lines, and the group's offsets before them
//	    crash: the lines come again, nothing of them is anywhere else
//	outcomes are produced into the open transaction
//	    crash: readers never see them, the broker aborts; the lines come again
//	the transaction commits outcomes and the offsets after the lines
//	    crash: done; lost reply: whoever is next asks the broker which of both holds
//
// What the ledger is told of the lines is among the outcomes. Rows are a
// function of line, source and GeoIP build, so that coming again
// changes nothing.
func (e *Enricher) enrich(ctx context.Context, tx *kafka.Transaction) error {
	return e.work.run(ctx, tx.Records(), tx.Produce)
}
