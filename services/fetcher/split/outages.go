package split

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/topics"
)

const (
	// longestProbe is how long an origin may take to answer.
	longestProbe = 10 * time.Second
	// longestBetweenProbes is how much later than it could an object may go on.
	longestBetweenProbes = 10 * time.Second
)

// origin is whom objects are asked of: a bucket, with what its source has to
// ask it with. Buckets may be in different regions, roles in different
// accounts, so one may be away while others answer.
type origin struct{ source, bucket string }

func originOf(object *topics.Object) origin { return origin{object.Source, object.Bucket} }

func (o origin) String() string { return fmt.Sprintf("s3://%s (source %s)", o.bucket, o.source) }

// outages are the origins that answer nobody. They are asked in the background
// until they answer, so that no transaction waits for them again; their objects
// wait meanwhile.
type outages struct {
	store  objectStore
	health Health
	number prometheus.Gauge
	log    *slog.Logger
	first  time.Duration   // between two probes
	life   context.Context // of the probes
	probes sync.WaitGroup

	mu   sync.Mutex // held while reporting, so that the last report is the true one
	away map[origin]error
}

// of is why an origin's objects wait; nil when it is not known to be away.
func (o *outages) of(from origin) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.away[from]
}

// begin has an origin asked about key until it answers.
func (o *outages) begin(from origin, key string, cause error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away[from] != nil {
		return
	}
	o.away[from] = cause
	o.number.Inc()
	o.probes.Go(func() { o.await(from, key) })
}

// await ends when the origin answers, or life does.
func (o *outages) await(from origin, key string) {
	spacing := backoff.NewExponentialBackOff()
	spacing.InitialInterval, spacing.Multiplier, spacing.MaxInterval = o.first, 2, longestBetweenProbes
	begun := time.Now()
	for told := false; ; told = true {
		ctx, cancel := context.WithTimeout(o.life, longestProbe)
		err := probe(ctx, o.store, from, key)
		cancel()
		switch {
		case o.life.Err() != nil:
			return
		case err == nil:
			o.end(from)
			if told {
				o.log.Info("the bucket answers again", "bucket", from.bucket, "source", from.source, "after", time.Since(begun).Round(time.Millisecond))
			}
			return
		case !told:
			o.log.Warn("the bucket does not answer; its objects wait, without losing tries", "bucket", from.bucket, "source", from.source, "error", err)
		}
		if !delay.For(o.life, spacing.NextBackOff()) {
			return
		}
	}
}

func (o *outages) end(from origin) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.away, from)
	o.number.Dec()
	o.tell()
}

// report says how the store is, as far as it is known.
func (o *outages) report() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tell()
}

func (o *outages) tell() {
	var problems []error
	for _, from := range slices.SortedFunc(maps.Keys(o.away), func(a, b origin) int { return strings.Compare(a.String(), b.String()) }) {
		problems = append(problems, fmt.Errorf("%s: %w", from, o.away[from]))
	}
	o.health.Report(s3Component, errors.Join(problems...))
}

// close waits for the probes, whose life has ended, and takes those that are
// away out of the number.
func (o *outages) close() {
	o.probes.Wait()
	o.number.Sub(float64(len(o.away)))
}

// probe is nil when the origin answers, whatever it says.
func probe(ctx context.Context, store objectStore, from origin, key string) error {
	err := store.Probe(ctx, from.bucket, key)
	if isAnswer(err) {
		return nil
	}
	return err
}
