// Package telemetry is how every stage is seen from outside: the log, the
// metrics registry, the health of what a stage depends on, and the admin
// server that shows them (/metrics, /healthz, /readyz, /debug/pprof).
package telemetry
