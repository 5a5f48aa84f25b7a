package sink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// holdInterval is how often a sink looks whether its table is held, and so how
// long a swap waits for sinks that have nothing to do.
const holdInterval = time.Second

// hold is what is known of the hold on a shard's table. It only ever reflects
// looks that were made one after the other: an older answer that overtook a
// newer one would let a worker go on that has acknowledged.
type hold struct {
	looking sync.Mutex // held from the question to the answer

	mu      sync.Mutex
	id      string        // "": not held
	changed chan struct{} // closed when id changes
}

func newHold() *hold { return &hold{changed: make(chan struct{})} }

func (h *hold) get() (id string, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.id, h.changed
}

func (h *hold) set(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id == h.id {
		return
	}
	h.id = id
	close(h.changed)
	h.changed = make(chan struct{})
}

// look asks the table. One that was held may be another table now, which is
// checked before anyone goes on.
func (s *Service) look(ctx context.Context, shard *shard) error {
	shard.hold.looking.Lock()
	defer shard.hold.looking.Unlock()
	before, _ := shard.hold.get()
	id, err := shard.table.Hold(ctx)
	if err != nil || id == before {
		return err
	}
	name := shard.table.Name()
	if id == "" {
		if err := shard.table.Prepare(ctx); err != nil {
			return err
		}
		s.log.Info("the table is no longer held; going on", "table", name, "hold", before)
		s.options.Health.Forget(s.holdComponent(shard))
	} else {
		s.log.Warn("the table is held: what is under way is finished, and nothing begun", "table", name, "hold", id)
		s.options.Health.Report(s.holdComponent(shard), fmt.Errorf(
			"table %s is held for the swap %s: it goes on when `auditstream replay --swap` is through, or with --abort", name, id))
	}
	shard.hold.set(id)
	return nil
}

func (s *Service) holdComponent(shard *shard) string {
	return fmt.Sprintf("%s hold %d", s.options.Name, shard.number)
}

// watchHold looks at the shard's table at intervals until ctx is done.
func (s *Service) watchHold(ctx context.Context, shard *shard) {
	ticker := time.NewTicker(holdInterval)
	defer ticker.Stop()
	// What an insert has reported is well again when one succeeds, not when this
	// does.
	for ill := false; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if !shard.isReady() {
			continue
		}
		lookCtx, cancel := context.WithTimeout(ctx, s.options.Config.InsertTimeout)
		err := s.look(lookCtx, shard)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil || ill {
			s.report(shard.component, err)
		}
		ill = err != nil
	}
}

// mayIntend returns when the worker may record an intent. Before its first one
// it looks for itself, since an earlier owner may have acknowledged a hold that
// this process has not seen yet.
//
// While the table is held it acknowledges: the committed offset says the hold's
// id and has no intent. From then on the partition inserts nothing until the
// hold is gone, whoever owns it.
func (w *worker) mayIntend(ctx context.Context) error {
	for try := w.tries("hold", &batch{from: w.committed, to: w.committed}); !w.looked; {
		lookCtx, cancel := context.WithTimeout(ctx, w.service.options.Config.InsertTimeout)
		err := w.service.look(lookCtx, w.shard)
		cancel()
		if err == nil {
			try.succeeded()
			w.looked = true
			break
		}
		if err := try.again(ctx, fmt.Errorf("look whether the table is held: %w", err)); err != nil {
			return err
		}
	}
	for {
		id, changed := w.shard.hold.get()
		if id == "" {
			return nil
		}
		if w.acknowledged != id {
			if err := w.commit(ctx, w.committed, nil); err != nil {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case <-w.stopping:
			return errStopped
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// held tells whether the worker has to go through mayIntend: to look first, to
// acknowledge a hold, or to wait for its end.
func (w *worker) held() bool {
	id, _ := w.shard.hold.get()
	return id != "" || !w.looked
}

// AwaitedByHold are the partitions of the topic that have not acknowledged the
// hold yet: those whose committed offset names another hold or none, or has an
// open intent. A group without members needs only to have no open intent, since
// a sink that starts looks at the table first.
func AwaitedByHold(ctx context.Context, client *kgo.Client, group, topic, hold string) ([]int32, error) {
	admin := kadm.NewClient(client)
	described, err := admin.DescribeGroups(ctx, group)
	if err == nil {
		err = described[group].Err
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("describe group %s: %w", group, err)
	}
	state := described[group].State
	away := state == "Empty" || state == "Dead" || state == ""
	details, err := admin.ListTopics(ctx, topic)
	if err == nil {
		err = details[topic].Err
	}
	if err != nil {
		return nil, fmt.Errorf("describe topic %s: %w", topic, err)
	}
	committed, err := admin.FetchOffsets(ctx, group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("fetch the committed offsets of group %s: %w", group, err)
	}
	var awaited []int32
	for _, partition := range details[topic].Partitions.Numbers() {
		response, found := committed.Lookup(topic, partition)
		if found && response.Err != nil {
			return nil, fmt.Errorf("fetch the committed offset of group %s in %s/%d: %w", group, topic, partition, response.Err)
		}
		var m metadata
		if found && response.At >= 0 {
			if m, err = decodeMetadata(response.At, response.Metadata); err != nil {
				return nil, fmt.Errorf("group %s in %s/%d: %w", group, topic, partition, err)
			}
		}
		if m.Intent != nil || !away && m.Hold != hold {
			awaited = append(awaited, partition)
		}
	}
	return awaited, nil
}

// RunAwaitedByHold tells whether the members of a bounded sink's group may still
// insert into a held table: a partition of the run that is not at its end has
// not acknowledged the hold, or an intent is open. A group without a run inserts
// nothing.
func RunAwaitedByHold(ctx context.Context, client *kgo.Client, group, hold string) (bool, error) {
	committed, err := kadm.NewClient(client).FetchOffsets(ctx, group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("fetch the committed offsets of group %s: %w", group, err)
	}
	awaited := false
	for _, response := range committed.Sorted() {
		if response.Err != nil {
			return false, fmt.Errorf("fetch the committed offset of group %s in %s/%d: %w", group, response.Topic, response.Partition, response.Err)
		}
		if response.At < 0 {
			continue
		}
		m, err := decodeMetadata(response.At, response.Metadata)
		if err != nil {
			return false, fmt.Errorf("group %s in %s/%d: %w", group, response.Topic, response.Partition, err)
		}
		awaited = awaited || m.Intent != nil || m.Run != nil && !m.Run.ends(response.At) && m.Hold != hold
	}
	return awaited, nil
}
