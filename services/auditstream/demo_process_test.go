package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/generate"
)

var demoFolder = regexp.MustCompile(`auditstream demo in (\S+)`)

// demoEnvironment keeps the demo's folder where the test sees whether it goes away.
func demoEnvironment(t *testing.T) (environ []string, temporary string) {
	t.Helper()
	temporary = t.TempDir()
	return []string{"TMPDIR=" + temporary}, temporary
}

func requireEmpty(t *testing.T, folder string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// The demo in full: what is put in, a replay with other places, and the check of both.
func TestDemoOnGeneratedLogs(t *testing.T) {
	environ, temporary := demoEnvironment(t)
	child := program(t, environ, "demo", "--events", "6000", "--objects", "9", "--seed", "5", "--replay")
	output, err := child.CombinedOutput()
	require.NoError(t, err, "%s", output)
	text := string(output)
	require.Contains(t, text, "count() 6,000, uniqExact(id) 6,000, expected 6,000")
	require.Contains(t, text, "object-corrupt 1")
	require.Contains(t, text, "every line is there, once")
	require.Equal(t, 2, strings.Count(text, "everything that was fetched is there, once"), "before the replay and after it")
	require.Contains(t, text, "count() 6,000, uniqExact(id) 6,000; the same ids as before: yes")
	for _, question := range questions {
		_, answer, found := strings.Cut(text, "\n"+question.title+"\n")
		require.True(t, found, question.title)
		require.True(t, strings.HasPrefix(answer, "┌"), "%s: %.200s", question.title, answer)
	}
	requireEmpty(t, temporary)
}

func TestDemoOnOwnLogs(t *testing.T) {
	data := t.TempDir()
	write := func(name string, content []byte) {
		path := filepath.Join(data, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, content, 0o600))
	}
	generator, err := generate.New(generate.Options{Seed: 3, Shape: generate.Mixed, BadShare: 0.05})
	require.NoError(t, err)
	logs := func(n int) []byte {
		var text []byte
		for range n {
			text, _ = generator.AppendLine(text)
			text = append(text, '\n')
		}
		return text
	}
	pack := func(text []byte) []byte {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err := w.Write(text)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return packed.Bytes()
	}
	whole := pack(logs(400))
	write("plain.ndjson", logs(300))
	write("deep/er/packed.ndjson.gz", whole)
	write("deep/members.gz", append(pack(logs(50)), pack(logs(50))...))
	write("cut.ndjson.gz", whole[:len(whole)/2])
	write("garbage.gz", []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x07 garbage"))
	write("notreally.gz", logs(20))
	write("empty.log", nil)
	write("list.json", []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[`+demoEvent+`,{"kind":"Pod"},`+demoEvent+`]}`))
	write(".hidden", []byte("not to be read"))
	write("text.txt", []byte("this is\nno log\n\nat all\n"))

	environ, temporary := demoEnvironment(t)
	output, err := program(t, environ, "demo", "--data", data).CombinedOutput()
	require.NoError(t, err, "%s", output)
	text := string(output)
	require.Contains(t, text, "put in         ")
	require.Contains(t, text, "2 unreadable objects")
	require.Contains(t, text, "object-corrupt 2")
	require.Contains(t, text, "every line is there, once")
	require.NotContains(t, text, ".hidden")
	requireEmpty(t, temporary)
}

func TestDemoOnAnEmptyFolderFails(t *testing.T) {
	environ, _ := demoEnvironment(t)
	output, err := program(t, environ, "demo", "--data", t.TempDir()).CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, exitFailure, exit.ExitCode())
	require.Contains(t, string(output), "no files in it")
}

// An interrupt in the middle leaves no process and no folder behind.
func TestDemoInterrupted(t *testing.T) {
	environ, temporary := demoEnvironment(t)
	child := program(t, environ, "demo", "--events", "400000")
	stdout, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	lines := bufio.NewReader(stdout)
	folder := demoFolder.FindStringSubmatch(waitLine(t, lines, "auditstream demo in"))[1]
	require.Equal(t, temporary, filepath.Dir(folder))
	waitLine(t, lines, "objects ") // the first progress
	require.NotZero(t, processesIn(t, folder), "the engine runs below the folder")
	require.NoError(t, child.Process.Signal(syscall.SIGINT))
	_, err = io.Copy(io.Discard, lines)
	require.NoError(t, err)
	var exit *exec.ExitError
	require.ErrorAs(t, child.Wait(), &exit)
	require.Equal(t, exitFailure, exit.ExitCode())
	require.Zero(t, processesIn(t, folder))
	requireEmpty(t, temporary)
}

// processesIn counts the processes whose command line names the folder.
func processesIn(t *testing.T, folder string) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("looks into /proc, which only Linux has")
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	count := 0
	for _, path := range commands {
		if command, err := os.ReadFile(path); err == nil && bytes.Contains(command, []byte(folder)) {
			count++
		}
	}
	return count
}
