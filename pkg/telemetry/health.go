package telemetry

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
)

// errNeverReported is the state of an expected component that has not said
// anything yet.
var errNeverReported = errors.New("not up yet")

// Health gathers how the components a process depends on are: the broker, the
// table, the object store. A component is ill from the first error it reports
// until it reports nil.
type Health struct {
	log *slog.Logger

	mu     sync.Mutex
	states map[string]error // nil: well
}

// NewHealth returns a Health that expects nothing and so is ready.
func NewHealth(log *slog.Logger) *Health {
	return &Health{log: log, states: make(map[string]error)}
}

// Expect makes the process not ready until each component has reported nil.
// It forgets nothing: a component that has already reported keeps its state.
func (h *Health) Expect(components ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, component := range components {
		if _, known := h.states[component]; !known {
			h.states[component] = errNeverReported
		}
	}
}

// Report says how a component is; nil is well. It may be called on every try:
// only a change between well and ill is logged.
func (h *Health) Report(component string, err error) {
	h.mu.Lock()
	before, known := h.states[component]
	h.states[component] = err
	h.mu.Unlock()

	wasWell := known && before == nil
	wasIll := known && before != nil && !errors.Is(before, errNeverReported)
	switch {
	case err != nil && !wasIll:
		h.log.Warn("component is not well, trying on", "component", component, "error", err)
	case err == nil && wasIll:
		h.log.Info("component is well again", "component", component)
	case err == nil && !wasWell:
		h.log.Info("component is up", "component", component)
	}
}

// Forget removes a component that no longer matters, such as a partition that
// went to another instance.
func (h *Health) Forget(component string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.states, component)
}

// Ready is nil when every component is well, else all of what is wrong.
func (h *Health) Ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	components := make([]string, 0, len(h.states))
	for component, err := range h.states {
		if err != nil {
			components = append(components, component)
		}
	}
	slices.Sort(components)
	problems := make([]error, 0, len(components))
	for _, component := range components {
		problems = append(problems, fmt.Errorf("%s: %w", component, h.states[component]))
	}
	return errors.Join(problems...)
}
