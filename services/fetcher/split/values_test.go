package split

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/topics"
)

type place struct {
	at     int64
	inside topics.Inside
}

// readValues reads all values from a place and tells where each of them ends.
func readValues(t testing.TB, source io.Reader, limit int, allowance int64, from place) ([]plainLine, []place) {
	t.Helper()
	reader := newValueReader(window{source: source, blocks: new(blocks)}, limit, from.inside, from.at == 0)
	var given []line
	var ends []place
	at := from.at
	for pauses := 0; ; {
		l, err := reader.next(allowance)
		if err == errPaused { //nolint:errorlint // bare, by contract
			if pauses++; pauses > 1<<20 {
				t.Fatal("no progress")
			}
			reader.compact()
			continue
		}
		if err == io.EOF { //nolint:errorlint // bare, by contract
			break
		}
		require.NoError(t, err)
		given = append(given, l)
		at += l.size
		ends = append(ends, place{at, l.inside})
	}
	values := make([]plainLine, len(given))
	for i, l := range given {
		values[i] = plainLine{string(l.text), l.length, l.size, l.tooLong}
	}
	return values, ends
}

func texts(values []plainLine) []string {
	out := make([]string, len(values))
	for i := range values {
		out[i] = values[i].Text
	}
	return out
}

func TestValues(t *testing.T) {
	for _, test := range []struct {
		name, data string
		want       []string
	}{
		{"nothing", " \r\n\t", nil},
		{"list", `[{"a":1},{"b":"]},{"},[1],"x",null,-1.5e3]`, []string{`{"a":1}`, `{"b":"]},{"}`, `[1]`, `"x"`, `null`, `-1.5e3`}},
		{"empty list", `[] {"a":1} [ ]`, []string{`{"a":1}`}},
		{"pretty list", "[\n  {\n    \"a\": 1\n  },\n  {\"b\": [ ] }\n]\n", []string{"{\n    \"a\": 1\n  }", `{"b": [ ] }`}},
		{"records", `{"Records":[{"a":1},{"b":2}],"more":{"x":["]}"]}}{"a":3}`, []string{`{"a":1}`, `{"b":2}`, `{"a":3}`}},
		{"records, pretty", "{ \"records\" : [\n{\"a\":1}\n,\n{\"b\":2}\n]\n}\n", []string{`{"a":1}`, `{"b":2}`}},
		{"records twice", `{"Records":[{"a":1}]}{"Records":[{"a":2}]}`, []string{`{"a":1}`, `{"a":2}`}},
		{"records that are no list", `{"Records":{"a":1}}`, []string{`{"Records":{"a":1}}`}},
		{"back to back", `{"a":1}{"b":"\"}{"}{"c":[{}]}`, []string{`{"a":1}`, `{"b":"\"}{"}`, `{"c":[{}]}`}},
		{"a list of lists", `[["a",{}],[{"b":1}]]`, []string{`["a",{}]`, `[{"b":1}]`}},
		{"a record with its time", `[1632315578.79,{"a":1}] [{"b":1}]`, []string{`[1632315578.79,{"a":1}]`, `{"b":1}`}},
		{"lines", "{\"a\":1}\r\n\r\n{\"b\":2}\n", []string{`{"a":1}`, `{"b":2}`}},
		{"byte order mark", "\xef\xbb\xbf[{\"a\":1}]", []string{`{"a":1}`}},
		{"ends in a value", `[{"a":1},{"b":`, []string{`{"a":1}`, `{"b":`}},
		{"broken line", "{\"a\":1}\noh no: {\"x\"}\n{\"b\":2}\n", []string{`{"a":1}`, `oh no: {"x"}`, `{"b":2}`}},
		{"broken in a list", `[{"a":1},{"b" 1},{"c":3}]`, []string{`{"a":1}`, `{"b" 1},`, `{"c":3}`}},
		{"broken back to back", `{"a":1}{"b":"cut{"c":3}{"d":4}`, []string{`{"a":1}`, `{"b":"cut{"c":3}`, `{"d":4}`}},
		{"never closed", `{"a":{"b":1}{"c":2}`, []string{`{"a":{"b":1}`, `{"c":2}`}},
		{"a string over a line end", "[{\"a\":\"x\n\"},{\"b\":1}]", []string{"{\"a\":\"x", `"},{"`, `b":1}]`}},
		{"stray ends", "]}\n{\"a\":1}", []string{"]}", `{"a":1}`}},
		{"words", "[true, false, null, nul, tru]\n[0]", []string{"true", "false", "null", "nul, tru]", "[0]"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, limit := range []int{1 << 20} {
				whole, ends := readValues(t, strings.NewReader(test.data), limit, 1<<30, place{})
				require.Empty(t, cmp.Diff(test.want, texts(whole), cmp.Comparer(func(a, b []string) bool { return slices.Equal(a, b) })))
				single, _ := readValues(t, iotest.OneByteReader(strings.NewReader(test.data)), limit, 0, place{})
				require.Equal(t, whole, single, "byte by byte")
				requireSameFromEachPlace(t, test.data, limit, whole, ends)
			}
		})
	}
}

// A read that begins after any value gives the values after it.
func requireSameFromEachPlace(t testing.TB, data string, limit int, values []plainLine, ends []place) {
	t.Helper()
	for i, from := range ends {
		rest, _ := readValues(t, strings.NewReader(data[from.at:]), limit, 1<<30, from)
		if !slices.Equal(values[i+1:], rest) {
			t.Fatalf("from %+v: %s", from, cmp.Diff(values[i+1:], rest))
		}
	}
}

func TestValueTooLong(t *testing.T) {
	long := `{"long":"` + strings.Repeat("x", 3*headOfLongLine) + `"}`
	for _, data := range []string{`[{"a":1},` + long + `,{"b":2}]`, `{"a":1}` + long + "\n" + `{"b":2}`} {
		for _, allowance := range []int64{0, 1 << 30} {
			got, ends := readValues(t, iotest.HalfReader(strings.NewReader(data)), 1000, allowance, place{})
			require.Len(t, got, 3)
			require.Equal(t, `{"b":2}`, got[2].Text)
			require.True(t, got[1].TooLong)
			require.EqualValues(t, len(long), got[1].Length)
			require.Equal(t, long[:headOfLongLine], got[1].Text)
			requireSameFromEachPlace(t, data, 1000, got, ends)
		}
	}
}

func TestSplittingOf(t *testing.T) {
	event := `{"kind":"Event","user":{"groups":["a","b"]}}`
	long := strings.Repeat(event, decisive/len(event)+1)
	pretty := "{\n  \"kind\": \"Event\"\n}\n"
	for _, test := range []struct {
		name, data string
		want       topics.Splitting
	}{
		{"nothing", "", topics.SplitLines},
		{"lines", event + "\n" + event + "\n", topics.SplitLines},
		{"lines after blank ones", "\r\n\n" + event + "\n", topics.SplitLines},
		{"one line", event, topics.SplitLines},
		{"text", "2026-01-01 " + long, topics.SplitLines},
		{"bracketed text", "[INFO] starting\n[INFO] started\n", topics.SplitLines},
		{"several on a line", event + event + "\n" + event, topics.SplitLines},
		{"a list on a line", "[" + event + "," + event + "]\n", topics.SplitLines},
		{"lists on lines", "[" + event + "]\n[" + event + "]\n", topics.SplitLines},
		{"pretty list", "[\n" + event + "\n]", topics.SplitValues},
		{"pretty values", pretty + pretty, topics.SplitValues},
		{"pretty, with a byte order mark", "\xef\xbb\xbf" + pretty, topics.SplitValues},
		{"pretty, and cut", "{\n \"a\": ", topics.SplitValues},
		{"a first line that is cut", `{"a":{"b":` + "\n" + event + "\n" + event + "\n", topics.SplitLines},
		{"a first line cut in a string", `{"a":"b` + "\n" + event + "\n", topics.SplitLines},
		{"records", `{"Records":[` + event + `]}`, topics.SplitValues},
		{"long list", "[" + strings.ReplaceAll(long, "}{", "},{") + "]", topics.SplitValues},
		{"long line of values", long, topics.SplitValues},
		{"long list over lines", "[" + event + ",\n" + strings.ReplaceAll(long, "}{", "},\n{") + "]", topics.SplitValues},
	} {
		t.Run(test.name, func(t *testing.T) {
			data := test.data[:min(len(test.data), decisive)]
			require.Equal(t, test.want, splittingOf([]byte(data), len(test.data) <= decisive))
		})
	}
}

// The values of a list are those that encoding/json finds.
func FuzzValues(f *testing.F) {
	f.Add([]byte(`[{"a":1},{"b":"]},{"},[1],"x",null,-1.5e3]`), uint16(1000), uint16(3), uint64(1))
	f.Add([]byte(`{"Records":[{"a":1}],"b":[2]}{"a":"\""} [1,{}] x y`+"\n{}"), uint16(4), uint16(1), uint64(2))
	f.Add(bytes.Repeat([]byte(`{"a":[{"b":"c"}]}`), 200), uint16(100), uint16(999), uint64(3))
	f.Add([]byte("\xef\xbb\xbf[\n{\"a\": \"b\n\"},}{,]"), uint16(100), uint16(2), uint64(4))
	f.Fuzz(func(t *testing.T, data []byte, limit, chunk uint16, seed uint64) {
		whole, ends := readValues(t, bytes.NewReader(data), int(limit), 1<<30, place{})
		source := &randomChunks{bytes.NewReader(data), int(chunk) + 1, rand.New(rand.NewPCG(seed, 1))}
		chunked, _ := readValues(t, source, int(limit), int64(chunk), place{})
		if !slices.Equal(whole, chunked) {
			t.Fatal(fmt.Sprintf("limit %d chunk %d seed %d", limit, chunk, seed), cmp.Diff(whole, chunked))
		}
		if len(data) < 4096 {
			requireSameFromEachPlace(t, string(data), int(limit), whole, ends)
		}
		var elements []json.RawMessage
		inside, _, _ := entrance(data)
		if inside != topics.InsideList || json.Unmarshal(data, &elements) != nil {
			return
		}
		require.Len(t, whole, len(elements))
		for i, element := range elements {
			if text := string(bytes.TrimSpace(element)); !whole[i].TooLong {
				require.Equal(t, text, whole[i].Text)
			} else {
				require.EqualValues(t, len(text), whole[i].Length)
			}
		}
	})
}
