package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"

	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"
)

// Load reads the file at path (none: defaults alone) and puts the variables of
// environ ("NAME=value") over it. Every problem of the file, of the variables and
// of what the named commands need comes back at once, as *ProblemsError.
func Load(path string, environ []string, commands ...Command) (Config, error) {
	cfg := Default()
	check := &checker{}
	origins := make(map[string]string) // key → the variable that set it
	k := koanf.New(".")
	if path != "" {
		if err := k.Load(file.Provider(path), yamlParser{}); err != nil {
			return cfg, &ProblemsError{Problems: fileProblems(path, err)}
		}
	}
	if err := k.Load(check.environment(environ, origins), nil); err != nil {
		return cfg, fmt.Errorf("read the environment: %w", err)
	}
	check.checkKeys(k.Raw(), reflect.TypeFor[Config](), "")
	check.decode(k, &cfg)

	// What has no sense of its own yet is not to be complained about a second time.
	later := &checker{}
	later.readSecrets(&cfg)
	cfg.derive(k.Exists("s3.pathStyle"))
	later.validate(&cfg, commands)
	for _, problem := range later.problems {
		if !check.about(problem.Key) {
			check.problems = append(check.problems, problem)
		}
	}
	return cfg, check.err(origins)
}

// derive fills in what follows from other keys and the machine.
func (cfg *Config) derive(pathStyleGiven bool) {
	// Without a host name the key stays empty, which validation refuses.
	cfg.Kafka.Instance, _ = cfg.Kafka.InstanceName()
	if cfg.S3.Endpoint != "" && !pathStyleGiven {
		cfg.S3.PathStyle = true // what stores other than AWS serve without DNS for each bucket
	}
}

// InstanceName is Instance, or the host's name where that is not set.
func (k *Kafka) InstanceName() (string, error) {
	if k.Instance != "" {
		return k.Instance, nil
	}
	return os.Hostname()
}

// yamlParser refuses what a plain read would pass over: a second document.
type yamlParser struct{}

func (yamlParser) Unmarshal(text []byte) (map[string]any, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var first map[string]any
	if err := decoder.Decode(&first); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one YAML document; only one is read")
	}
	return first, nil
}

func (yamlParser) Marshal(values map[string]any) ([]byte, error) { return yaml.Marshal(values) }

// fileProblems says why the file can't be used, each YAML error by itself.
func fileProblems(path string, err error) []Problem {
	var types *yaml.TypeError
	if errors.As(err, &types) {
		problems := make([]Problem, 0, len(types.Errors))
		for _, text := range types.Errors {
			problems = append(problems, Problem{Key: path, Text: text})
		}
		return problems
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return []Problem{{Key: path, Text: "can't be read: " + pathError.Err.Error()}}
	}
	return []Problem{{Key: path, Text: strings.TrimPrefix(err.Error(), "yaml: ")}}
}
