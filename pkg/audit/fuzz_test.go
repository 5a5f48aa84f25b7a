package audit

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/auditstream/auditstream/pkg/event"
)

// seeds are our own sample lines of every shape, and JSON's corner cases.
func seeds(f *testing.F) {
	files, err := filepath.Glob("testdata/*.ndjson")
	if err != nil || len(files) == 0 {
		f.Fatalf("no samples in testdata: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			f.Add(line)
		}
	}
	for _, text := range []string{
		``, ` `, `null`, `{`, `{"a"`, `{"a":`, `{"a":1,}`, `[1,]`, `[,1]`, `{"a":1 "b":2}`, `"\u12"`, `"\ud800\u0041"`, `"\ud83d\ude00"`,
		`-`, `-0`, `01`, `1.`, `1.e1`, `1e`, `1e+`, `-0.0e-0`, `tru`, `nul`, `falsey`, "\"\x01\"", "\"\xff\"", "\"\x7f\"", `{"":{"":[[],{}]}}`,
		"\xef\xbb\xbf{}", `{}{}`, `[]`, `[{}]`, `"{}"`, "{\"a\":\"\xc3\x28\"}", `1 2`, "\t\r\n 1 ", "\v1",
	} {
		f.Add([]byte(text))
	}
}

// FuzzScannerAgreesWithEncodingJSON checks both ways of the scanner through a
// text, blind and member by member, against encoding/json.
func FuzzScannerAgreesWithEncodingJSON(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		valid := json.Valid(data)
		var s scanner
		if got := accepts(&s, data, (*scanner).skip); got != valid {
			t.Fatalf("skip says %v of %q", got, data)
		}
		if got := accepts(&s, data, visit); got != valid {
			t.Fatalf("visit says %v of %q", got, data)
		}
		if !valid {
			return
		}
		s.reset(data, &arena{})
		s.space()
		if s.peek() != '"' {
			return
		}
		var want string
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
		if got := s.text(); got != want {
			t.Fatalf("%q is %q, want %q", data, got, want)
		}
		s.reset(data, &arena{})
		s.space()
		if got := s.arena.mend(s.unescaped()); got != want {
			t.Fatalf("%q is %q in one pass, want %q", data, got, want)
		}
	})
}

func accepts(s *scanner, data []byte, take func(*scanner)) bool {
	s.reset(data, &arena{})
	s.space()
	take(s)
	s.space()
	return s.fault == faultNone && s.pos == len(data)
}

// visit takes the value at pos by the methods that reading an event uses.
func visit(s *scanner) {
	switch s.peek() {
	case '{':
		for more := s.enter('}'); more; more = s.next('}') {
			s.key()
			visit(s)
		}
	case '[':
		for more := s.enter(']'); more; more = s.next(']') {
			visit(s)
		}
	default:
		s.text()
	}
}

// FuzzNormalize checks what holds for every line: an outcome, the row's rawLog,
// valid texts, ids that differ, and the same again for the same line.
func FuzzNormalize(f *testing.F) {
	seeds(f)
	source := &Source{WorkspaceID: "w", ID: "s", Type: "kubernetes-audit", EventKeys: []string{"payload"}, Tags: event.Map{{Key: "team", Value: "a"}}}
	normalizer := NewNormalizer(nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		line := Line{Bytes: slices.Clone(data), ObjectID: testObject, Number: 7, ReceivedAt: 1_700_000_000_000}
		var raws [][]byte
		var names []string
		ids := map[string]bool{}
		result := normalizer.Normalize(source, line, func(row *event.Row) {
			requireValidTexts(t, row)
			raws = append(raws, bytes.Clone(row.RawLog))
			names = append(names, strings.Clone(row.EventName))
			ids[strings.Clone(row.ID)] = true
			if !utf8.ValidString(row.Actor.Get("type")) || row.EventTime == 0 && row.Tags.Get("eventTimeClamped") == "" &&
				!strings.Contains(string(data), "1970") && !strings.Contains(string(data), "0") {
				t.Fatalf("no event time")
			}
		})
		if !bytes.Equal(line.Bytes, data) {
			t.Fatal("the line was changed")
		}
		if result.Rows+len(result.Rejections)+len(result.Skips) == 0 {
			t.Fatal("no outcome")
		}
		if len(raws) != result.Rows || len(ids) != result.Rows {
			t.Fatalf("%d rows, %d emitted, %d ids", result.Rows, len(raws), len(ids))
		}
		for _, rejection := range result.Rejections {
			if !slices.Contains(Reasons(), rejection.Reason) || rejection.Detail == "" || !utf8.ValidString(rejection.Detail) {
				t.Fatalf("rejection %+v", rejection)
			}
		}
		if len(raws) == 1 && !isList(data) && !bytes.Equal(raws[0], data) {
			t.Fatalf("rawLog is %q", raws[0])
		}
		var again []string
		if NewNormalizer(nil).Normalize(source, line, func(row *event.Row) { again = append(again, strings.Clone(row.EventName)) }); !slices.Equal(names, again) {
			t.Fatalf("%q, then %q", names, again)
		}
		if result.Rows > 0 && !anyValid(data) {
			t.Fatal("a row of a line that is not JSON")
		}
	})
}

// isList says whether a line may hold several events, so that rawLog is the
// event's own bytes.
func isList(data []byte) bool {
	for _, key := range []string{"items", "records", "logEvents", "resourceLogs", "[", "}{", "\\u"} {
		if bytes.Contains(data, []byte(key)) {
			return true
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, byteOrderMark)))
	var first json.RawMessage
	return decoder.Decode(&first) != nil || decoder.More()
}

// anyValid says whether a line is JSON after what may stand before it: a byte
// order mark, a prefix with a time.
func anyValid(data []byte) bool {
	data = bytes.TrimPrefix(data, byteOrderMark)
	if _, rest, found := cutPrefix(data[skipSpace(data, 0):]); found {
		data = rest
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	for decoder.More() {
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return false
		}
	}
	return true
}
