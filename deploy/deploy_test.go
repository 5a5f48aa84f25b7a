// Package deploy_test holds what is deployed against the code: the stages must
// start with the configuration that compose gives them, and the DDL kept here
// must be the one that the code makes.
package deploy_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
)

var update = flag.Bool("update", false, "write the DDL files anew")

type composeFile struct {
	Services map[string]composeService
	Configs  map[string]struct{ File string }
	Volumes  map[string]any
}

type composeService struct {
	Image       string
	Build       struct{ Context, Dockerfile string }
	Command     []string
	Environment map[string]string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck *struct{ Test []string }
	Volumes     []string
	ReadOnly    bool `yaml:"read_only"`
	Restart     string
}

func readCompose(t *testing.T) composeFile {
	t.Helper()
	content, err := os.ReadFile("compose.yaml")
	require.NoError(t, err)
	var file composeFile
	require.NoError(t, yaml.Unmarshal(content, &file))
	return file
}

var variable = regexp.MustCompile(`\$\{\w+:-([^}]*)\}`)

// Every stage's command loads the configuration file with the environment that
// compose sets, without a problem.
func TestStagesLoadTheConfiguration(t *testing.T) {
	compose := readCompose(t)
	for name, commands := range map[string][]config.Command{
		"fetcher":  {config.CommandFetcher},
		"enricher": {config.CommandEnricher},
		"sink":     {config.CommandSink},
		"topics":   {config.CommandTopics},
		"schema":   {config.CommandSchema},
	} {
		service, found := compose.Services[name]
		require.True(t, found, name)
		require.Equal(t, string(commands[0]), service.Command[0])
		require.True(t, service.ReadOnly, "%s writes nothing to its file system", name)
		var environ []string
		for key, value := range service.Environment {
			environ = append(environ, key+"="+variable.ReplaceAllString(value, "$1"))
		}
		cfg, err := config.Load(compose.Configs["auditstream"].File, environ, commands...)
		require.NoError(t, err, name)
		require.Equal(t, "minio", cfg.S3.Alias)
		require.Equal(t, config.Secret("auditstream"), cfg.S3.SecretAccessKey)
		require.Equal(t, config.Secret("auditstream"), cfg.ClickHouse.Password)
	}
}

func TestComposeHoldsTogether(t *testing.T) {
	compose := readCompose(t)
	for name, service := range compose.Services {
		require.NotEmpty(t, service.Image, name)
		_, tag, tagged := strings.Cut(filepath.Base(service.Image), ":")
		require.True(t, tagged && tag != "latest", "%s: an image without a version: %s", name, service.Image)
		for needed, how := range service.DependsOn {
			other, found := compose.Services[needed]
			require.True(t, found, "%s waits for %s", name, needed)
			switch how.Condition {
			case "service_healthy":
				require.NotNil(t, other.Healthcheck, "%s waits for the health of %s", name, needed)
			case "service_completed_successfully":
				require.Equal(t, "no", other.Restart, "%s waits for the end of %s", name, needed)
			default:
				t.Errorf("%s waits for %s: %q", name, needed, how.Condition)
			}
		}
		if service.Build.Dockerfile != "" {
			_, err := os.Stat(filepath.Join(service.Build.Context, service.Build.Dockerfile))
			require.NoError(t, err)
		}
		for _, volume := range service.Volumes {
			volumeName, _, _ := strings.Cut(volume, ":")
			require.Contains(t, compose.Volumes, volumeName)
		}
	}
}

// The stages' health is asked with the binary, as the image has nothing else.
func TestStagesHaveHealthChecks(t *testing.T) {
	compose := readCompose(t)
	for _, stage := range []string{"fetcher", "enricher", "sink"} {
		require.NotNil(t, compose.Services[stage].Healthcheck, stage)
		require.Equal(t, []string{"CMD", "/auditstream", "health"}, compose.Services[stage].Healthcheck.Test, stage)
	}
	content, err := os.ReadFile("Dockerfile")
	require.NoError(t, err)
	require.Contains(t, string(content), `CMD ["/auditstream", "health"]`)
}

func TestImageIsStaticAndNotRoot(t *testing.T) {
	content, err := os.ReadFile("Dockerfile")
	require.NoError(t, err)
	text := string(content)
	require.Contains(t, text, "CGO_ENABLED=0")
	require.Contains(t, text, "-tags noembedded")
	_, last, found := strings.Cut(text, "\nFROM scratch\n")
	require.True(t, found)
	require.Contains(t, last, "USER 65532:65532")
	require.Contains(t, last, "ca-certificates.crt")
	require.NotContains(t, last, "RUN ")
	module, err := os.ReadFile(filepath.Join("..", "go.mod"))
	require.NoError(t, err)
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(module)
	require.Contains(t, text, "ARG GO_VERSION="+string(version[1])+"\n")
}

// The DDL for those who make the table by hand is what `auditstream schema print`
// prints, for one server and for a cluster.
func TestDDLIsTheOneOfTheCode(t *testing.T) {
	single := config.Default().ClickHouse
	cluster := single
	cluster.Cluster = "main"
	for name, cfg := range map[string]config.ClickHouse{
		"kubernetes_audit_logs.sql":         single,
		"kubernetes_audit_logs_cluster.sql": cluster,
	} {
		path := filepath.Join("clickhouse", name)
		want := clickhouse.Print(cfg)
		if *update {
			require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
		}
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, string(got), "go test ./deploy -update writes it anew")
	}
}
