package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/services/fetcher/split"
)

const demoEvent = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"1","stage":"ResponseComplete","requestURI":"/version","verb":"get"}`

// demoObject is an object of five lines: event, blank, bad, list of two events, event.
func demoObject(t *testing.T) *expectedObject {
	t.Helper()
	object := &expectedObject{key: "data/a"}
	reader := dataReader{normalizer: audit.NewNormalizer(nil), limits: split.Limits{Line: 10_000}}
	text := strings.Join([]string{
		demoEvent, "  \r", "{cut", `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + demoEvent + `,` + demoEvent + `]}`, demoEvent,
	}, "\n")
	require.NoError(t, reader.read(strings.NewReader(text), object))
	return object
}

func TestDemoExpectsWhatTheLinesAre(t *testing.T) {
	object := demoObject(t)
	require.Equal(t, []outcome{outcomeRow, outcomeSkip, outcomeDead, outcomeSeveral, outcomeRow}, object.lines)
	require.Equal(t, map[int64][]outcome{4: {outcomeRow, outcomeRow}}, object.several)
}

func TestDemoReadsFilesAsTheyAre(t *testing.T) {
	pack := func(text string) []byte {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return packed.Bytes()
	}
	zstandard := func(text string) []byte {
		encoder, err := zstd.NewWriter(nil)
		require.NoError(t, err)
		return encoder.EncodeAll([]byte(text), nil)
	}
	long := strings.Repeat("x", 5000)
	for name, test := range map[string]struct {
		content    []byte
		want       []outcome
		unreadable bool
	}{
		"empty":          {nil, nil, false},
		"no last end":    {[]byte(demoEvent), []outcome{outcomeRow}, false},
		"last end":       {[]byte(demoEvent + "\r\n"), []outcome{outcomeRow}, false},
		"too long":       {[]byte(long + "\n" + demoEvent), []outcome{outcomeDead, outcomeRow}, false},
		"gzip":           {pack(demoEvent + "\n" + demoEvent + "\n"), []outcome{outcomeRow, outcomeRow}, false},
		"two members":    {append(pack(demoEvent+"\n"), pack(demoEvent+"\n")...), []outcome{outcomeRow, outcomeRow}, false},
		"garbage inside": {[]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x07garbage"), nil, true},
		"only magic":     {[]byte("\x1f\x8b"), []outcome{outcomeDead}, false},
		"zstd":           {zstandard(demoEvent + "\n" + demoEvent), []outcome{outcomeRow, outcomeRow}, false},
		"zstd, cut":      {zstandard(demoEvent)[:20], nil, true},
		"a list":         {[]byte("[" + demoEvent + ",\n 1, " + demoEvent + "]"), []outcome{outcomeRow, outcomeDead, outcomeRow}, false},
		"pretty-printed": {[]byte(strings.ReplaceAll(demoEvent+demoEvent, ",", ",\n")), []outcome{outcomeRow, outcomeRow}, false},
		"cut":            {pack(demoEvent + "\n")[:40], nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			reader := dataReader{normalizer: audit.NewNormalizer(nil), limits: split.Limits{Line: 1000}}
			object := &expectedObject{}
			require.NoError(t, reader.read(bytes.NewReader(test.content), object))
			require.Equal(t, test.want, object.lines)
			require.Equal(t, test.unreadable, object.unreadable)
		})
	}
}

func TestDemoTellsWhatIsWrong(t *testing.T) {
	id := identity.ObjectID("embedded", "b", "data/a", "1")
	broken := identity.ObjectID("embedded", "b", "data/b", "2")
	row := func(line int64, event int) string { return identity.RowID(id, line, event) }
	for name, test := range map[string]struct {
		rows      []string
		dead      []int64
		unread    int
		lostRows  int
		lostDead  int
		doubled   int
		unexpectd int
	}{
		"all there":          {rows: []string{row(1, 0), row(4, 0), row(4, 1), row(5, 0)}, dead: []int64{3}, unread: 1},
		"nothing there":      {lostRows: 4, lostDead: 2},
		"a row lost":         {rows: []string{row(1, 0), row(4, 0), row(4, 1)}, dead: []int64{3}, unread: 1, lostRows: 1},
		"an item lost":       {rows: []string{row(1, 0), row(4, 1), row(5, 0)}, dead: []int64{3}, unread: 1, lostRows: 1},
		"a row doubled":      {rows: []string{row(1, 0), row(1, 0), row(4, 0), row(4, 1), row(5, 0)}, dead: []int64{3}, unread: 1, doubled: 1},
		"an item doubled":    {rows: []string{row(1, 0), row(4, 1), row(4, 0), row(4, 1), row(5, 0)}, dead: []int64{3}, unread: 1, doubled: 1},
		"letters doubled":    {rows: []string{row(1, 0), row(4, 0), row(4, 1), row(5, 0)}, dead: []int64{3, 3}, unread: 2, doubled: 2},
		"a blank became row": {rows: []string{row(1, 0), row(2, 0), row(4, 0), row(4, 1), row(5, 0)}, dead: []int64{3}, unread: 1, unexpectd: 1},
		"one too many":       {rows: []string{row(1, 0), row(4, 0), row(4, 1), row(4, 2), row(5, 0), row(6, 0), "x"}, dead: []int64{3}, unread: 1, unexpectd: 3},
		"letter for a row":   {rows: []string{row(4, 0), row(4, 1), row(5, 0)}, dead: []int64{1, 3}, unread: 1, lostRows: 1, unexpectd: 1},
	} {
		t.Run(name, func(t *testing.T) {
			e := newExpected()
			e.add(id, demoObject(t))
			e.add(broken, &expectedObject{key: "data/b", lines: []outcome{outcomeRow}, unreadable: true})
			require.Equal(t, [4]int{4, 1, 1, 1}, [4]int{e.events, e.bad, e.skips, e.unreadable})
			require.False(t, e.complete(4, 2), "the row before the break is still to come")
			require.True(t, e.complete(5, 2))
			for _, each := range test.rows {
				e.row(each)
			}
			for _, line := range test.dead {
				e.deadLetter(id, line, 0, "not-json")
			}
			for range test.unread {
				e.deadLetter(broken, 1, 0, "object-corrupt")
			}
			lostRows, lostDead := e.lost()
			require.Equal(t, [4]int{test.lostRows, test.lostDead, test.doubled, test.unexpectd}, [4]int{lostRows, lostDead, e.doubled, e.unexpected})
			require.Equal(t, lostRows+lostDead+e.doubled+e.unexpected > 0, len(e.examples) > 0)
		})
	}
}

func TestDemoCommandLine(t *testing.T) {
	for _, arguments := range [][]string{
		{"--events", "0"}, {"--events", "5", "--objects", "6"}, {"--data", "/does/not/exist"}, {"--data", os.Args[0]}, {"extra"},
	} {
		var stderr bytes.Buffer
		app := &application{stdout: &bytes.Buffer{}, stderr: &stderr}
		require.Equal(t, exitUsage, app.execute(t.Context(), append([]string{"demo"}, arguments...)), "%v", arguments)
		require.NotContains(t, stderr.String(), `unknown command "demo"`)
	}
}
