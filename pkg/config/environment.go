package config

import (
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/env/v2"
)

// Prefix of the variables that override the file.
const environmentPrefix = "AUDITSTREAM_"

// FileVariable names the configuration file when no flag does.
const FileVariable = "AUDITSTREAM_CONFIG"

// otherVariables begin with the prefix and are not keys of the file.
var otherVariables = []string{
	FileVariable,
	"AUDITSTREAM_CORPUS",            // where tests find real audit logs
	"AUDITSTREAM_ENGINE_LIBRARY",    // the ClickHouse engine's library, instead of fetching it
	"AUDITSTREAM_CLICKHOUSE_BINARY", // a clickhouse binary in its place
	"AUDITSTREAM_EMBEDDED_CHILD",    // set for the engine's process
}

// testPrefix begins the variables that only tests read.
const testPrefix = "AUDITSTREAM_TEST_"

// Kubernetes sets these for every Service of the namespace, for one called
// "auditstream" too (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
var serviceVariable = regexp.MustCompile(
	`^AUDITSTREAM(_[A-Z0-9]+)*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)$`)

// environmentValue is a value that came from the environment: always text, to be
// read as what its key holds.
type environmentValue struct {
	Text string
}

// variableNames are the ways to write a key as a variable: kafka.clientID is
// AUDITSTREAM_KAFKA_CLIENT_ID or AUDITSTREAM_KAFKA_CLIENTID.
func variableNames(path string) []string {
	var spaced, joined []string
	for key := range strings.SplitSeq(path, ".") {
		spaced = append(spaced, words(key)...)
		joined = append(joined, key)
	}
	names := []string{
		environmentPrefix + strings.ToUpper(strings.Join(spaced, "_")),
		environmentPrefix + strings.ToUpper(strings.Join(joined, "_")),
	}
	return slices.Compact(names)
}

// environment is a koanf provider of the variables that are keys of the file.
// It reports those that are none, and notes which variable set which key.
func (c *checker) environment(environ []string, origins map[string]string) *env.Env {
	paths := make(map[string]string)
	for _, f := range fields(reflect.TypeFor[Config](), "") {
		if f.kind.Kind() == reflect.Slice && f.kind.Elem().Kind() == reflect.Struct {
			continue // a list of structures has no form as a variable
		}
		for _, name := range variableNames(f.path) {
			paths[name] = f.path
		}
	}
	known := make([]string, 0, len(paths))
	for name := range paths {
		known = append(known, name)
	}
	sorted := slices.Sorted(slices.Values(environ))
	return env.Provider(".", env.Opt{
		Prefix:      environmentPrefix,
		EnvironFunc: func() []string { return sorted },
		TransformFunc: func(name, value string) (string, any) {
			path, isKey := paths[name]
			switch {
			case isKey && origins[path] != "" && origins[path] != name:
				c.problem(name, "sets %s, and so does %s; keep one of them", path, origins[path])
				return "", nil
			case isKey:
				origins[path] = name
				return path, environmentValue{Text: value}
			case slices.Contains(otherVariables, name), strings.HasPrefix(name, testPrefix),
				serviceVariable.MatchString(name):
				return "", nil
			case strings.HasPrefix(name, environmentPrefix+"SOURCES"):
				c.problem(name, "sources are set in the file only")
			case strings.HasPrefix(name, environmentPrefix+"CLICKHOUSE_SHARDS"):
				c.problem(name, "clickhouse.shards is set in the file only")
			default:
				if near := nearest(name, known); near != "" {
					c.problem(name, "unknown variable; did you mean %s?", near)
				} else {
					c.problem(name, "unknown variable; it would set no key of the configuration")
				}
			}
			return "", nil
		},
	})
}
