package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/tests/golden"
)

const receivedAt = "--received-at=2026-01-31T12:00:00Z"

func TestNormalizeGolden(t *testing.T) {
	t.Chdir("testdata")
	got := command(t, nil, nil, "-c", "normalize.yaml", "normalize", receivedAt, "--summary", "normalize.ndjson")
	require.Equal(t, exitFailure, got.code)
	t.Chdir("..")
	golden.Equal(t, "testdata/normalize.rows.golden", got.stdout)
	golden.Equal(t, "testdata/normalize.rejected.golden", got.stderr)
}

func TestNormalizeExplainsOneLine(t *testing.T) {
	input := "\n" + `{"date":1600000000,"log":"{\"auditID\":\"a\",\"stage\":\"ResponseComplete\",\"verb\":\"get\",\"user\":{\"username\":\"jane\"}}"}` + "\n"
	got := command(t, nil, strings.NewReader(input), "normalize", receivedAt, "--explain=2")
	require.Equal(t, exitOK, got.code, got.stderr)
	require.Regexp(t, `(?m)^user\.username +"jane" +log\.user\.username$`, got.stdout)
	require.Regexp(t, `(?m)^date +"2020-09-13T12:26:40Z" +date$`, got.stdout)
	require.NotContains(t, got.stdout, "userAgent", "columns at their default are left out")

	got = command(t, nil, strings.NewReader(input), "normalize", "--explain", "--summary")
	require.Empty(t, got.stdout)
	require.Contains(t, got.stderr, "1 line, 0 rows, 0 rejected (skipped: blank 1)")
	got = command(t, nil, strings.NewReader(input), "normalize", "--explain=3")
	require.Equal(t, exitFailure, got.code)
	require.Equal(t, "stdin:3: no such line: the last one is 2\n", got.stderr)
	got = command(t, nil, nil, "normalize", "--explain", "3", "testdata/normalize.ndjson")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.stderr, "--explain=3")
	got = command(t, nil, strings.NewReader(input), "normalize", "--explain=-1")
	require.Equal(t, exitUsage, got.code)
}

func TestNormalizeKeysAreTheColumns(t *testing.T) {
	input, err := os.ReadFile("testdata/normalize.ndjson")
	require.NoError(t, err)
	got := command(t, nil, bytes.NewReader(input), "normalize")
	line, _, _ := strings.Cut(got.stdout, "\n")
	decoder := jsontext.NewDecoder(strings.NewReader(line))
	_, err = decoder.ReadToken()
	require.NoError(t, err)
	var keys, columns []string
	for decoder.PeekKind() != '}' {
		key, err := decoder.ReadToken()
		require.NoError(t, err)
		keys = append(keys, key.String())
		require.NoError(t, decoder.SkipValue())
	}
	for _, column := range clickhouse.Columns() {
		columns = append(columns, column.Name)
	}
	require.Len(t, columns, 69)
	require.Equal(t, columns, keys)
}

func compress(t *testing.T, text []byte) []byte {
	t.Helper()
	var compressed bytes.Buffer
	writer := gzip.NewWriter(&compressed)
	_, err := writer.Write(text)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	return compressed.Bytes()
}

func TestNormalizeReadsGzipByContent(t *testing.T) {
	plain, err := os.ReadFile("testdata/normalize.ndjson")
	require.NoError(t, err)
	// Two members, as appended files are.
	half := bytes.IndexByte(plain, '\n') + 1
	compressed := append(compress(t, plain[:half]), compress(t, plain[half:])...)
	fromPlain := command(t, nil, bytes.NewReader(plain), "normalize", receivedAt)
	fromGzip := command(t, nil, bytes.NewReader(compressed), "normalize", receivedAt, "-")
	require.Equal(t, fromPlain, fromGzip)
	require.NotEmpty(t, fromPlain.stdout)

	cut := command(t, nil, bytes.NewReader(compressed[:len(compressed)-20]), "normalize", receivedAt)
	require.Equal(t, exitFailure, cut.code)
	require.Regexp(t, `stdin:\d+: object-corrupt: its gzip data ends in the middle, after \d+ whole lines\n$`, cut.stderr)
}

// What breaks off is told once, at the line that would have come next.
func TestNormalizeOfABrokenFile(t *testing.T) {
	event := []byte(`{"kind":"Event","auditID":"a","stage":"ResponseComplete","verb":"get"}` + "\n")
	whole := compress(t, bytes.Repeat(event, 3))
	checksum := bytes.Clone(whole)
	checksum[len(checksum)-8] ^= 1
	for name, one := range map[string]struct {
		input []byte
		rows  int
		want  string
	}{
		"a second member cut":    {append(bytes.Clone(whole), whole[:12]...), 3, "stdin:4: object-corrupt: its gzip data ends in the middle, after 3 whole lines\n"},
		"no gzip after a member": {append(compress(t, event), "no gzip at all"...), 1, "stdin:2: object-corrupt: its gzip data is broken: invalid header, after 1 whole line\n"},
		"wrong checksum":         {checksum, 3, "stdin:4: object-corrupt: its gzip data is broken: invalid checksum, after 3 whole lines\n"},
		"cut at once":            {whole[:11], 0, "stdin:1: object-corrupt: its gzip data ends in the middle, after 0 whole lines\n"},
		"no such gzip":           {append([]byte("\x1f\x8b\x08"), bytes.Repeat([]byte{0xff}, 20)...), 0, "stdin:1: object-corrupt: its gzip data "},
	} {
		t.Run(name, func(t *testing.T) {
			got := command(t, nil, bytes.NewReader(one.input), "normalize", receivedAt)
			require.Equal(t, exitFailure, got.code)
			require.Equal(t, one.rows, strings.Count(got.stdout, "\n"))
			require.Contains(t, got.stderr, one.want)
			require.Equal(t, 1, strings.Count(got.stderr, "\n"))
			require.NotContains(t, got.stderr, "object corrupt")
		})
	}
}

// However the same events are written, their rows differ by nothing but what is
// between and around them.
func TestNormalizeReadsWhatThePipelineReads(t *testing.T) {
	event := func(id string) string {
		return `{"kind":"Event","auditID":"` + id + `","stage":"ResponseComplete","verb":"get","requestURI":"/healthz"}`
	}
	var packed bytes.Buffer
	encoder, err := zstd.NewWriter(&packed)
	require.NoError(t, err)
	_, err = encoder.Write([]byte(event("a") + "\n" + event("b")))
	require.NoError(t, err)
	require.NoError(t, encoder.Close())
	want := command(t, nil, strings.NewReader(event("a")+"\n"+event("b")), "normalize", receivedAt)
	require.Equal(t, 2, strings.Count(want.stdout, "\n"))
	for name, input := range map[string]string{
		"zstd":         packed.String(),
		"a list":       "[" + event("a") + ",\n" + event("b") + "]",
		"back to back": event("a") + event("b"),
		"records":      `{"Records":[` + event("a") + "," + event("b") + "]}",
	} {
		got := command(t, nil, strings.NewReader(input), "normalize", receivedAt)
		if name == "back to back" { // one line of several events: their ids say so
			require.Equal(t, 2, strings.Count(got.stdout, "\n"), name)
			continue
		}
		require.Equal(t, want, got, name)
	}
}

func TestNormalizeLines(t *testing.T) {
	event := `{"kind":"Event","auditID":"a","stage":"ResponseComplete","verb":"get"}`
	for name, one := range map[string]struct {
		input    string
		code     int
		rows     int
		rejected []string
	}{
		"empty":             {"", exitOK, 0, nil},
		"blank":             {"\n \n\r\n", exitOK, 0, nil},
		"no line end":       {event, exitOK, 1, nil},
		"CR LF":             {event + "\r\n" + event, exitOK, 2, nil},
		"bad between":       {event + "\n{\n" + event, exitFailure, 2, []string{"stdin:2: not-json: "}},
		"too long":          {event + "\n" + strings.Repeat("x", 5000) + "\r\n" + event, exitFailure, 2, []string{"stdin:2: line-too-long: "}},
		"too long at end":   {event + "\n" + strings.Repeat("x", 200_000), exitFailure, 1, []string{"stdin:2: line-too-long: "}},
		"over by one":       {strings.Repeat("x", 4097), exitFailure, 0, []string{"stdin:1: line-too-long: "}},
		"at the limit, bad": {strings.Repeat("x", 4096) + "\r\n", exitFailure, 0, []string{"stdin:1: not-json: "}},
		"two bytes":         {"{}", exitFailure, 0, []string{"stdin:1: not-audit-event: "}},
	} {
		t.Run(name, func(t *testing.T) {
			got := command(t, []string{"AUDITSTREAM_TOPICS_LINE_LIMIT=4KiB"}, strings.NewReader(one.input), "normalize")
			require.Equal(t, one.code, got.code, got.stderr)
			require.Equal(t, one.rows, strings.Count(got.stdout, "\n"))
			lines := strings.Split(strings.TrimSuffix(got.stderr, "\n"), "\n")
			if len(one.rejected) == 0 {
				lines = nil
			}
			require.Len(t, lines, len(one.rejected), got.stderr)
			for i, want := range one.rejected {
				require.True(t, strings.HasPrefix(lines[i], want), "%q, want %q", lines[i], want)
			}
		})
	}
}

func TestNormalizeGoesOnAfterAMissingFile(t *testing.T) {
	got := command(t, nil, nil, "normalize", receivedAt, "testdata/missing", "testdata", "testdata/normalize.ndjson")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.stderr, "open testdata/missing: no such file or directory")
	require.Contains(t, got.stderr, "read testdata: is a directory")
	require.NotEmpty(t, got.stdout)
}

// Every sample that there is, in the forms real shippers give it: no line
// without an outcome, and every row valid JSON with a time and an id.
func TestNormalizeCorpus(t *testing.T) {
	corpus := os.Getenv("AUDITSTREAM_CORPUS")
	if corpus == "" {
		corpus = "../../../shared/corpus"
	}
	files, err := filepath.Glob(filepath.Join(corpus, "audit_events", "*.ndjson"))
	require.NoError(t, err)
	if len(files) == 0 {
		t.Skipf("no audit logs in %s; AUDITSTREAM_CORPUS names a folder of them", corpus)
	}
	got := command(t, nil, nil, append([]string{"normalize", "--summary"}, files...)...)
	require.Contains(t, []int{exitOK, exitFailure}, got.code)
	require.NotEmpty(t, got.stdout)
	ids := map[string]bool{}
	for line := range strings.Lines(got.stdout) {
		var row struct{ ID, EventTime string }
		require.NoError(t, json.Unmarshal([]byte(line), &row))
		require.NotEmpty(t, row.EventTime)
		require.False(t, ids[row.ID], "%s twice", row.ID)
		ids[row.ID] = true
	}
}
