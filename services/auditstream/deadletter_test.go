package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/embedded"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/services/auditstream/deadletter"
	"github.com/auditstream/auditstream/topics"
)

func TestDeadLetterCommands(t *testing.T) {
	kafka, err := embedded.StartKafka(t.Context(), embedded.KafkaOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, kafka.Close()) })
	file := filepath.Join(t.TempDir(), "a.yaml")
	require.NoError(t, os.WriteFile(file, []byte("kafka: {brokers: ["+kafka.Addresses()[0]+"]}\n"+
		"topics: {deadletter: {partitions: 1}}\nsources: [{id: known, bucket: logs}]\n"), 0o600))
	run := func(arguments ...string) result { return command(t, nil, nil, append(arguments, "-c", file)...) }
	require.Equal(t, exitOK, run("topics", "apply").code)

	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.Addresses()...))
	require.NoError(t, err)
	defer client.Close()
	object := topics.Object{
		ID: identity.ObjectID("aws", "logs", "a.gz", "e"), Endpoint: "aws", Bucket: "logs", Key: "a.gz", ETag: "e", Source: "known",
		FromLine: 1, Cause: topics.CauseNotified,
	}
	announced, err := object.Record(topics.Objects)
	require.NoError(t, err)
	letter := func(line int64, text string) *kgo.Record {
		d := topics.DeadLetterRecord{
			Stage: "enricher", Reason: topics.ReasonUnknownSource, Error: "of no source", Topic: topics.Raw, Source: "known", Object: object.ID,
			Line: line, ReceivedAt: 1, Bytes: []byte(text),
		}
		return d.Record(topics.DeadLetter)
	}
	event := `{"kind":"Event","auditID":"a","stage":"ResponseComplete","verb":"get"}`
	require.NoError(t, client.ProduceSync(t.Context(), announced, letter(1, event), letter(2, "no JSON"), letter(3, "\x00\xff")).FirstErr())

	got := run("deadletter", "list", "--object", "s3://logs/a.gz")
	require.Equal(t, exitOK, got.code, got.stderr)
	require.Equal(t, 4, strings.Count(got.stdout, "\n"))
	require.Contains(t, got.stdout, "s3://logs/a.gz")
	got = run("deadletter", "list", "--limit", "2", "--json")
	require.Equal(t, 2, strings.Count(got.stdout, "\n"))
	require.Contains(t, got.stderr, "there are more than 2")
	require.Contains(t, run("deadletter", "list", "--summary").stdout, "unknown-source  3")
	require.Equal(t, "\x00\xff", run("deadletter", "show", "0/2", "--raw").stdout)
	got = run("deadletter", "show", "0/0")
	require.Contains(t, got.stdout, "s3://logs/a.gz")
	require.Contains(t, got.stdout, event)

	require.Equal(t, exitUsage, run("deadletter", "retry").code)
	require.Equal(t, exitUsage, run("deadletter", "retry", "seven").code)
	require.Equal(t, exitUsage, run("deadletter", "list", "--since", "soon").code)
	for _, arguments := range [][]string{{"list"}, {"list", "--summary"}, {"retry"}, {"retry", "--dry-run"}} {
		got = run(append(append([]string{"deadletter"}, arguments...), "--reason", "unknown_source")...)
		require.Equal(t, exitUsage, got.code, arguments)
		for _, reason := range deadletter.Reasons() {
			require.Contains(t, got.stderr, string(reason))
		}
		require.Empty(t, got.stdout)
	}
	for _, reason := range deadletter.Reasons() {
		got = run("deadletter", "list", "--summary", "--reason", string(reason))
		require.Equal(t, exitOK, got.code, got.stderr)
		require.Equal(t, reason == topics.ReasonUnknownSource, strings.Contains(got.stdout, "enricher"), reason)
	}
	got = run("deadletter", "show", "0/77")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.stderr, "no such dead letter: 0/77")
	require.Equal(t, exitFailure, run("deadletter", "list", "--object", "s3://logs/other").code)

	got = run("deadletter", "retry", "--dry-run")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.stderr, "put back 1, left 2, put back before 0 (dry run")
	got = run("deadletter", "retry", "0/0")
	require.Equal(t, exitOK, got.code, got.stderr)
	require.Equal(t, "0/0  unknown-source  to raw\n", got.stdout)
	got = run("deadletter", "retry", "--yes")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.stderr, "put back 0, left 2, put back before 1")
	require.Equal(t, 3, strings.Count(run("deadletter", "list").stdout, "\n"))
	require.Contains(t, run("deadletter", "list", "--retried").stdout, "(put back ")
}
