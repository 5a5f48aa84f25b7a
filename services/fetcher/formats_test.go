package fetcher_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/services/fetcher/split"
	"github.com/auditstream/auditstream/topics"
)

// compressors by name; each gives two frames, one after the other, for two parts.
var compressors = map[string]func(t *testing.T, part string) []byte{
	"gzip": func(_ *testing.T, part string) []byte { return zip(part) },
	"zstd": func(t *testing.T, part string) []byte {
		encoder, err := zstd.NewWriter(nil)
		require.NoError(t, err)
		return encoder.EncodeAll([]byte(part), nil)
	},
	"lz4": func(t *testing.T, part string) []byte {
		var out bytes.Buffer
		writer := lz4.NewWriter(&out)
		_, err := writer.Write([]byte(part))
		require.NoError(t, err)
		require.NoError(t, writer.Close())
		return out.Bytes()
	},
	"snappy": func(t *testing.T, part string) []byte {
		var out bytes.Buffer
		writer := s2.NewWriter(&out, s2.WriterSnappyCompat())
		_, err := writer.Write([]byte(part))
		require.NoError(t, err)
		require.NoError(t, writer.Close())
		return out.Bytes()
	},
	"bzip2": func(t *testing.T, part string) []byte {
		path, err := exec.LookPath("bzip2")
		if err != nil {
			golden, err := os.ReadFile("testdata/lines.bz2")
			require.NoError(t, err)
			return golden
		}
		command := exec.Command(path, "-c")
		command.Stdin = strings.NewReader(part)
		out, err := command.Output()
		require.NoError(t, err)
		return out
	},
}

// Objects are told by their content: here every name lies.
func TestFormats(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	golden := numbered("golden", 40, 150)
	for name, compress := range compressors {
		if _, err := exec.LookPath("bzip2"); name == "bzip2" && err != nil {
			continue
		}
		text := numbered(name, 3000, 300)
		half := len(text) / 2
		content := bytes.Join([][]byte{compress(t, text[:half]), compress(t, text[half:])}, nil)
		want.lines(w.put("logs/"+name+".json", content), text)
	}
	bz2, err := os.ReadFile("testdata/lines.bz2")
	require.NoError(t, err)
	want.lines(w.put("logs/golden.gz", bz2), golden)
	zstdWithSkippable := append([]byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abc"), compressors["zstd"](t, golden)...)
	want.lines(w.put("logs/skippable.gz", zstdWithSkippable), golden)
	w.start(nil)
	w.requireRaw(want)
	w.deadLetters(0)
}

// A frame that is cut ends in a dead letter, and never in silence.
func TestCutFrames(t *testing.T) {
	w := newWorld(t)
	cut := make(map[string]string)
	text := noise(400_000)
	for name, compress := range compressors {
		if _, err := exec.LookPath("bzip2"); name == "bzip2" && err != nil {
			continue
		}
		content := compress(t, text)
		cut[w.put("logs/"+name, content[:len(content)-20])] = name
	}
	w.start(nil)
	for _, letter := range w.deadLetters(len(cut)) {
		require.Equal(t, topics.ReasonObjectCorrupt, letter.Reason, cut[letter.Object])
		delete(cut, letter.Object)
	}
	require.Empty(t, cut)
}

// elements adds the elements of an object that is split into values.
func (e expected) elements(object string, elements ...string) {
	for i, text := range elements {
		e[identity.RowID(object, int64(i+1), 0)] = text
	}
}

func events(name string, n, size int) []string {
	return strings.Split(strings.TrimSuffix(numbered(name, n, size), "\n"), "\n")
}

func indented(t *testing.T, value string) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, json.Indent(&out, []byte(value), "", "  "))
	return out.String()
}

// Lists, records and concatenations larger than a slice, through aborts and
// crashes in the middle: each element is there once.
func TestValuesThroughAbortAndCrash(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	list := events("list", 4000, 400)
	want.elements(w.put("logs/list", []byte("["+strings.Join(list, ",")+"]")), list...)
	zipped := events("zipped", 4000, 400)
	want.elements(w.put("logs/zipped", zip("["+strings.Join(zipped, ",\n")+"]\n")), zipped...)
	records := events("records", 4000, 400)
	want.elements(w.put("logs/records", []byte(`{"Records": [`+strings.Join(records, " , ")+`], "more": [1]}`)), records...)
	nested := make([]string, 300)
	for i, part := range events("nested", 300, 4000) {
		nested[i] = "[" + part + "]"
	}
	want.elements(w.put("logs/nested", []byte("["+strings.Join(nested, ",")+"]")), nested...)
	together := events("together", 3000, 400)
	want.elements(w.put("logs/together", zip(strings.Join(together, ""))), together...)
	pretty := events("pretty", 2000, 400)
	for i := range pretty {
		pretty[i] = indented(t, pretty[i])
	}
	want.elements(w.put("logs/pretty", []byte("\xef\xbb\xbf"+strings.Join(pretty, "\n"))), pretty...)
	tooLong := events("long", 2000, 100)
	tooLong[700] = `{"long":"` + strings.Repeat("x", 1<<20) + `"}`
	id := w.put("logs/long", zip("["+strings.Join(tooLong, ",")+"]"))
	want.elements(id, tooLong...)
	delete(want, identity.RowID(id, 701, 0))

	for _, step := range []split.Step{split.StepBegun, split.StepRead, split.StepTold} {
		w.start(func(o *fetcher.Options) { o.AtStep = crashAt(step, 4) }).crashed()
	}
	aborted := 0
	r := w.start(func(o *fetcher.Options) { o.AtStep = abortEvery(5, &aborted) })
	w.requireRaw(want)
	require.Positive(t, aborted)
	require.Positive(t, r.metric("auditstream_fetcher_reopened_total"))
	letters := w.deadLetters(1)
	require.Equal(t, topics.ReasonLineTooLong, letters[0].Reason)
	require.EqualValues(t, 701, letters[0].Line)
}

func TestObjectsThatGrowTooLarge(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	line := strings.Repeat("x", 99) + "\n"
	bomb := w.put("logs/bomb", compressors["zstd"](t, strings.Repeat(line, 300_000)))
	large := w.put("logs/large", zip(noise(40<<20)))
	fine := strings.Repeat(line, 100)
	want.lines(w.put("logs/repetitive", zip(fine)), fine)
	archived := w.put("logs/archived", []byte("x\n"))
	w.faults.set(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/logs/archived") {
			return false
		}
		rw.WriteHeader(http.StatusForbidden)
		_, _ = rw.Write([]byte(`<Error><Code>InvalidObjectState</Code><Message>archived</Message></Error>`))
		return true
	})
	w.start(func(o *fetcher.Options) {
		o.Config.MaxObjectSize = 35 << 20
		o.Config.MaxExpansion = 100
		o.Config.SliceSize = 8 << 20
	})
	got := make(map[string]string)
	for _, letter := range w.deadLetters(3) {
		got[letter.Object] = fmt.Sprint(letter.Reason, " ", letter.Line > 10_000)
	}
	require.Equal(t, map[string]string{
		bomb:     "object-too-large true",
		large:    "object-too-large true",
		archived: "object-archived false",
	}, got)
}

func TestLinesOfAnObject(t *testing.T) {
	w := newWorld(t)
	want := make(expected)
	text := "first\r\n\n  \r\nfifth is below\nno last newline"
	plain := w.put("logs/plain", []byte(text))
	want.lines(plain, text)
	members := w.put("logs/members", zip("first\r\n", "\n", "", "  \r\nfifth is", " below\nno last newline"))
	want.lines(members, text)

	// A line over the limit between others, larger than a slice.
	long := strings.Repeat("0123456789", 100_000)
	id := w.put("logs/long", zip("before\n"+long+"\nafter\n"))
	want.lines(id, "before\n\nafter\n")

	r := w.start(nil)
	letters := w.deadLetters(1)
	require.Equal(t, topics.ReasonLineTooLong, letters[0].Reason)
	require.Equal(t, id, letters[0].Object)
	require.EqualValues(t, 2, letters[0].Line)
	require.Equal(t, long[:64<<10], string(letters[0].Bytes))
	require.Contains(t, letters[0].Error, "1000000 bytes")
	w.requireRaw(want)
	require.EqualValues(t, 4, r.metric("auditstream_fetcher_blank_lines_total"))
	w.requireLedger(map[string]string{
		plain:   "g0 1-5 complete, skip blank[[2 3]]",
		members: "g0 1-5 complete, skip blank[[2 3]]",
		id:      "deadletter line-too-long[[2 2]], g0 1-3 complete",
	})
}

// What a Reader says of an object's bytes is what the fetcher makes of the
// object: the same lines with the same numbers, and where it breaks off.
func TestReaderIsTheFetcher(t *testing.T) {
	w := newWorld(t)
	list := events("list", 500, 200)
	broken := strings.Join(list[:100], ",\n") + ",\n{]\n" + strings.Join(list[100:], ",")
	contents := map[string][]byte{
		"lines":     []byte(numbered("lines", 2000, 150) + "\r\n \r\nlast"),
		"list":      []byte("[" + strings.Join(list, ", ") + "]"),
		"broken":    []byte("\xef\xbb\xbf[" + broken + "]"),
		"records":   zip(`{"records":[` + strings.Join(list, ",") + "]}"),
		"pretty":    compressors["zstd"](t, indented(t, list[0])+indented(t, list[1])),
		"members":   append(zip("a\nb"), zip("c\nd\n")...),
		"cut":       zip(noise(400_000))[:200_000],
		"long":      []byte("a\n" + strings.Repeat("x", 1<<20) + "\nb\n"),
		"cut.zst":   compressors["zstd"](t, noise(400_000))[:200_000],
		"oversized": compressors["zstd"](t, strings.Repeat(strings.Repeat("x", 99)+"\n", 300_000)),
		"empty":     nil,
	}
	want, letters := make(expected), make(map[string]string)
	options := w.options()
	for name, content := range contents {
		object := w.put("logs/"+name, content)
		lines := split.NewReader(bytes.NewReader(content), split.Limits{
			Line: int(options.Topics.LineLimit), Size: int64(options.Config.MaxObjectSize), Expansion: int64(options.Config.MaxExpansion),
		})
		last := int64(0)
		for {
			line, err := lines.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				letters[fmt.Sprint(object, " ", last)] = string(split.ReasonOf(err))
				break
			}
			last = line.Number
			switch {
			case line.TooLong:
				letters[fmt.Sprint(object, " ", last)] = string(topics.ReasonLineTooLong)
			case len(bytes.TrimSpace(line.Text)) > 0:
				want[identity.RowID(object, line.Number, 0)] = string(line.Text)
			}
		}
		lines.Close()
	}
	w.start(nil)
	w.requireRaw(want)
	require.NotEmpty(t, letters)
	got := make(map[string]string)
	for _, letter := range w.deadLetters(len(letters)) {
		got[fmt.Sprint(letter.Object, " ", letter.Line)] = string(letter.Reason)
	}
	require.Equal(t, letters, got)
}
