package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/embedded"
	"github.com/auditstream/auditstream/tests/golden"
)

// asProgram makes the test binary the program itself, for tests of a whole process.
const asProgram = "AUDITSTREAM_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	embedded.RunChildIfAsked()
	if os.Getenv(asProgram) != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// result of one command line.
type result struct {
	code           int
	stdout, stderr string
}

// command runs a command line in this process, in an environment of its own.
func command(t *testing.T, environ []string, stdin io.Reader, arguments ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	app := &application{stdin: stdin, stdout: &stdout, stderr: &stderr, environ: environ}
	code := app.execute(context.WithoutCancel(t.Context()), arguments)
	return result{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

func TestHelp(t *testing.T) {
	var all strings.Builder
	for _, line := range []string{
		"", "fetcher", "enricher", "sink", "up", "topics", "topics apply",
		"verify",
		"deadletter", "deadletter list", "deadletter show", "deadletter retry",
		"schema", "schema apply", "schema print", "schema diff", "config", "config check", "normalize", "backfill", "replay", "top", "trace", "health", "version",
	} {
		arguments := strings.Fields(line)
		got := command(t, nil, nil, append(arguments, "--help")...)
		require.Equal(t, exitOK, got.code, line)
		require.Empty(t, got.stderr)
		all.WriteString(strings.TrimSpace("$ auditstream "+line) + " --help\n" + got.stdout + "\n")
		if len(arguments) == 1 && (line == "topics" || line == "schema" || line == "config" || line == "deadletter") {
			require.Equal(t, got, command(t, nil, nil, line), "a group alone shows its help")
		}
	}
	golden.Equal(t, "testdata/help.golden", all.String())
}

func TestUsageErrors(t *testing.T) {
	for _, line := range []string{
		"nothing", "topics nothing", "schema nothing", "config nothing", "version extra", "fetcher extra",
		"--nothing", "topics apply --nothing", "topics apply --timeout soon", "config check --for nothing",
		"normalize --received-at yesterday", "normalize --source nothing", "normalize --geoip /nonexistent",
		"-c /nonexistent.yaml config check", "-c /nonexistent.yaml up",
		"verify --since soon", "verify --until never", "verify --since 1h --until 2h",
		"top --interval 1ms", "top --window 0s", "top --interval soon", "trace", "trace a b", "trace a --since soon",
	} {
		t.Run(line, func(t *testing.T) {
			got := command(t, nil, strings.NewReader(""), strings.Fields(line)...)
			require.Equal(t, exitUsage, got.code, got.stderr)
			require.NotEmpty(t, got.stderr)
			require.Empty(t, got.stdout)
		})
	}
}

func TestConfigurationProblemsExit2(t *testing.T) {
	for _, line := range []string{"fetcher", "enricher", "sink", "topics apply", "schema apply", "schema diff"} {
		got := command(t, []string{"AUDITSTREAM_LOG_LEVEL=loud"}, nil, strings.Fields(line)...)
		require.Equal(t, exitUsage, got.code, line)
		require.Contains(t, got.stderr, "log.level (AUDITSTREAM_LOG_LEVEL): \"loud\" is not one of")
		require.Contains(t, got.stderr, ": missing: ", line)
	}
	got := command(t, nil, nil, "config", "check", "--for", "sink,fetcher")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.stderr, "the configuration has 3 problems:")
}

func TestConfigCheck(t *testing.T) {
	got := command(t, nil, nil, "config", "check")
	require.Equal(t, result{
		stdout: "the configuration is right\n",
		stderr: "auditstream: there is no configuration file (auditstream.yaml); only the defaults and AUDITSTREAM_ variables were read\n",
	}, got)
	file := filepath.Join(t.TempDir(), "a.yaml")
	require.NoError(t, os.WriteFile(file, []byte("kafka: {group: a}\n"), 0o600))
	require.Equal(t, result{stdout: "the configuration is right\n"}, command(t, nil, nil, "config", "check", "-c", file))

	got = command(t, []string{"AUDITSTREAM_CLICKHOUSE_PASSWORD=hunter2"}, nil, "config", "check", "--print")
	require.Equal(t, exitOK, got.code)
	require.Contains(t, got.stdout, "password: '[set]'")
	require.NotContains(t, got.stdout, "hunter2")
}

func TestConfigurationFile(t *testing.T) {
	directory := t.TempDir()
	t.Chdir(directory)
	write := func(name, group string) string {
		path := filepath.Join(directory, name)
		require.NoError(t, os.WriteFile(path, []byte("kafka: {group: "+group+"}\n"), 0o600))
		return path
	}
	named, flagged := write("named.yaml", "named"), write("flagged.yaml", "flagged")
	print := func(environ []string, arguments ...string) string {
		got := command(t, environ, nil, append(arguments, "config", "check", "--print")...)
		require.Equal(t, exitOK, got.code, got.stderr)
		return got.stdout
	}
	require.Contains(t, print(nil), "group: auditstream\n")
	write("auditstream.yaml", "here")
	require.Contains(t, print(nil), "group: here\n")
	require.Contains(t, print([]string{"AUDITSTREAM_CONFIG=" + named}), "group: named\n")
	require.Contains(t, print([]string{"AUDITSTREAM_CONFIG=" + named}, "-c", flagged), "group: flagged\n")
}

func TestSchemaPrintNeedsNoServer(t *testing.T) {
	got := command(t, nil, nil, "schema", "print")
	require.Equal(t, exitOK, got.code, got.stderr)
	require.Contains(t, got.stdout, "CREATE TABLE IF NOT EXISTS")
	require.Contains(t, got.stdout, "`annotations.authorization.k8s.io.reason`")
}

func TestVersion(t *testing.T) {
	got := command(t, nil, nil, "version")
	require.Equal(t, exitOK, got.code)
	for _, word := range []string{"auditstream ", "commit ", "go1.", "/"} {
		require.Contains(t, got.stdout, word)
	}
}
