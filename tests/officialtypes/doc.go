// Package officialtypes compares the normalizer with the API server's own types:
// events are made with k8s.io/apiserver, written by its codec, and read back by
// pkg/audit; every column is then held against what the typed event says.
//
// It is a module of its own, so that nobody who builds auditstream carries the
// libraries of Kubernetes.
package officialtypes
