package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
)

// One `up` as a user has it: what it prints is enough to put a file in and to
// ask for its rows, and it ends well when told to.
func TestUp(t *testing.T) {
	child := program(t, []string{
		"AUDITSTREAM_ADMIN_ADDRESS=127.0.0.1:0",
		"AUDITSTREAM_EMBEDDED_KAFKA_ADDRESS=127.0.0.1:0",
		"AUDITSTREAM_EMBEDDED_S3_ADDRESS=127.0.0.1:0",
		"AUDITSTREAM_EMBEDDED_CLICKHOUSE_TCP_ADDRESS=127.0.0.1:0",
		"AUDITSTREAM_EMBEDDED_CLICKHOUSE_HTTP_ADDRESS=127.0.0.1:0",
	}, "up")
	stdout, err := child.StdoutPipe()
	require.NoError(t, err)
	var stderr lockedBuffer
	child.Stderr = &stderr
	require.NoError(t, child.Start())
	t.Cleanup(func() { _ = child.Process.Kill() })

	lines := bufio.NewReader(stdout)
	waitLine(t, lines, "auditstream is up")
	text := ""
	for !strings.Contains(text, "GROUP BY") {
		line, err := lines.ReadString('\n')
		require.NoError(t, err, stderr.String())
		text += line
	}
	found := regexp.MustCompile(`(http://\S+) \(embedded\), access key (\S+), secret key (\S+), region (\S+)`).FindStringSubmatch(text)
	require.NotEmpty(t, found, text)
	query := regexp.MustCompile(`http://\S+ \(HTTP\)`).FindString(text)
	query, _, _ = strings.Cut(query, " ")
	require.NotEmpty(t, query, text)

	const events = 100
	var log strings.Builder
	for n := range events {
		fmt.Fprintf(&log, `{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"%d","stage":"ResponseComplete","verb":"list","objectRef":{"resource":"secrets"}}`+"\n", n)
	}
	store := s3.New(s3.Options{
		BaseEndpoint: &found[1], Region: found[4], UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(found[2], found[3], ""),
	})
	_, err = store.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String("audit-logs"), Key: aws.String("audit.log"), Body: strings.NewReader(log.String()),
	})
	require.NoError(t, err)

	ask := func() string {
		sql := "SELECT eventName, count(), uniqExact(id) FROM default.kubernetes_audit_logs GROUP BY eventName"
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, query+"/?query="+url.QueryEscape(sql), nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return string(body)
	}
	want := fmt.Sprintf("list secrets\t%d\t%d\n", events, events)
	require.Eventually(t, func() bool { return ask() == want }, patience, 200*time.Millisecond)

	if curl, err := exec.LookPath("curl"); err != nil {
		t.Log("no curl here: the commands that are printed were not run")
	} else {
		asPrinted(t, curl, child.Dir, text, log.String())
	}

	require.NoError(t, child.Process.Signal(syscall.SIGTERM))
	_, err = io.Copy(io.Discard, lines)
	require.NoError(t, err)
	require.NoError(t, child.Wait(), "exit code 0; it wrote: %s", &stderr)
}

// asPrinted types the commands that `up` prints.
func asPrinted(t *testing.T, curl, directory, text, log string) {
	t.Helper()
	commands := regexp.MustCompile(`(?ms)^  curl (.*?)\n(?:\n|\z)`).FindAllStringSubmatch(text, -1)
	require.Len(t, commands, 2, text)
	// Other content than the first object has, under the name in the command.
	require.NoError(t, os.WriteFile(filepath.Join(directory, "audit.log"), []byte(strings.ReplaceAll(log, "list", "get")), 0o600))
	for i, want := range []string{"", "get secrets"} {
		require.Eventually(t, func() bool {
			shell := exec.CommandContext(t.Context(), "sh", "-c", curl+" -sS --fail "+commands[i][1])
			shell.Dir = directory
			output, err := shell.CombinedOutput()
			require.NoError(t, err, "%s\n%s", commands[i][0], output)
			return strings.Contains(string(output), want)
		}, patience, 200*time.Millisecond)
	}
}

// lockedBuffer is read while the child's output is still written to it.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// All sources are told, with their queues.
func TestWhereaboutsOfEverySource(t *testing.T) {
	a, b := config.DefaultSource(), config.DefaultSource()
	a.ID, a.Bucket, a.Prefix = "production", "audit-logs", "production/"
	b.ID, b.Bucket, b.Queue.URL = "staging", "others", "https://sqs.eu-central-1.amazonaws.com/111122223333/q"
	cfg := config.Default()
	cfg.Sources = []config.Source{a, b}
	var text strings.Builder
	require.NoError(t, whereaboutsText.Execute(&text, whereabouts{Config: cfg, Bucket: a.Bucket, Prefix: a.Prefix}))
	require.Contains(t, text.String(), `
  S3          AWS
              bucket audit-logs, prefix production/: source production
              bucket others: source staging, told of by https://sqs.eu-central-1.amazonaws.com/111122223333/q
  Admin `)
}
