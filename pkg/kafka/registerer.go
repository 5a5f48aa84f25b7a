package kafka

import (
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// maxClients of one client id share a registry; further ones go unmeasured.
const maxClients = 64

// clientRegisterer puts the metrics of several clients of one process on one
// registry: each gets the label client, its client id, with a number for the
// second and further ones.
type clientRegisterer struct {
	registry prometheus.Registerer
	clientID string

	mu    sync.Mutex
	where map[prometheus.Collector]prometheus.Registerer
}

func newClientRegisterer(registry prometheus.Registerer, clientID string) *clientRegisterer {
	return &clientRegisterer{
		registry: registry,
		clientID: clientID,
		where:    make(map[prometheus.Collector]prometheus.Registerer),
	}
}

// Register puts the collector under the first label value that is free.
func (r *clientRegisterer) Register(collector prometheus.Collector) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range maxClients {
		name := r.clientID
		if n > 0 {
			name += "-" + strconv.Itoa(n+1)
		}
		labelled := prometheus.WrapRegistererWith(prometheus.Labels{"client": name}, r.registry)
		err := labelled.Register(collector)
		if errors.As(err, new(prometheus.AlreadyRegisteredError)) {
			continue
		}
		if err != nil {
			return fmt.Errorf("register metrics of Kafka client %s: %w", name, err)
		}
		r.where[collector] = labelled
		return nil
	}
	return fmt.Errorf("register metrics of Kafka client %s: more than %d clients", r.clientID, maxClients)
}

// MustRegister registers what it can. Metrics are never a reason to stop.
func (r *clientRegisterer) MustRegister(collectors ...prometheus.Collector) {
	for _, collector := range collectors {
		_ = r.Register(collector) // a client without metrics works
	}
}

// Unregister takes the collector back.
func (r *clientRegisterer) Unregister(collector prometheus.Collector) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	labelled, known := r.where[collector]
	if !known {
		return false
	}
	delete(r.where, collector)
	return labelled.Unregister(collector)
}
