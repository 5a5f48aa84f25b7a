package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func sourceFile(t *testing.T, endpoint string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auditstream.yaml")
	require.NoError(t, os.WriteFile(path, []byte(`
s3: {region: eu-central-1, accessKeyID: a, secretAccessKey: b, endpoint: "`+endpoint+`"}
sources:
  - {id: production, bucket: audit-logs, role: {arn: "arn:aws:iam::111122223333:role/reader", externalID: 0123abcd}}
  - {id: staging, bucket: staging-logs, queue: {url: "`+endpoint+`/111122223333/queue"}}
`), 0o600))
	return path
}

func TestSourceSetup(t *testing.T) {
	file := sourceFile(t, "http://127.0.0.1:1")
	arguments := func(more ...string) []string { return append([]string{"source", "setup", "-c", file}, more...) }
	for _, format := range []string{"shell", "terraform", "json"} {
		got := command(t, nil, nil, arguments("production", "--account", "111122223333", "--region", "eu-central-1", "--format", format)...)
		require.Equal(t, exitOK, got.code, got.stderr)
		require.Contains(t, got.stdout, "0123abcd")
		require.Contains(t, got.stdout, "reader")
	}
	for _, test := range []struct {
		arguments []string
		want      string
	}{
		{arguments("production"), `source setup: --region "" is not a region`},
		{arguments("nobody", "--account", "111122223333", "--region", "eu-central-1"), `"nobody" is none of production, staging`},
		{arguments("staging", "--account", "1", "--region", "eu-central-1"), `source setup: --account "1" is not an account's twelve digits`},
		{arguments("staging", "--account", "111122223333", "--region", "eu-central-1"), "--external-id is missing"},
		{arguments("production", "--account", "111122223333", "--region", "eu-central-1", "--format", "xml"), `--format: "xml" is not one of`},
	} {
		got := command(t, nil, nil, test.arguments...)
		require.Equal(t, exitUsage, got.code)
		require.Empty(t, got.stdout)
		require.Contains(t, got.stderr, test.want)
	}
}

// A service that refuses everything: the check names all that is missing.
func TestSourceCheckSaysWhatIsMissing(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer refusing.Close()
	file := sourceFile(t, refusing.URL)
	got := command(t, nil, nil, "source", "check", "staging", "-c", file)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.stderr, "2 of the steps of source staging can't be done")
	for _, want := range []string{"missing  queue", "sqs:ReceiveMessage", "sqs:DeleteMessage", "missing  list", "s3:ListBucket on s3://staging-logs/"} {
		require.Contains(t, got.stdout, want)
	}
	got = command(t, nil, nil, "source", "check", "production", "-c", file)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.stdout, "sts:AssumeRole on arn:aws:iam::111122223333:role/reader")
	require.Contains(t, got.stdout, "skipped  get")

	require.Equal(t, exitUsage, command(t, nil, nil, "source", "check", "nobody", "-c", file).code)
	require.Equal(t, exitUsage, command(t, nil, nil, "source", "check").code)
}
