package topics

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/identity"
)

var update = flag.Bool("update", false, "write the golden files anew")

func writeGoldenJSON(t *testing.T, path string, data []byte) {
	t.Helper()
	var indented bytes.Buffer
	require.NoError(t, json.Indent(&indented, data, "", "  "))
	indented.WriteByte('\n')
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
	require.NoError(t, os.WriteFile(path, indented.Bytes(), 0o600))
}

// goldenRecord is a Kafka record as people review it.
type goldenRecord struct {
	Key     string            `json:"key"`
	Value   string            `json:"value"`
	Headers map[string]string `json:"headers"`
}

func requireGoldenRecord(t *testing.T, name string, record *kgo.Record) {
	t.Helper()
	readable := goldenRecord{Key: string(record.Key), Value: string(record.Value), Headers: map[string]string{}}
	for _, header := range record.Headers {
		readable.Headers[header.Key] = string(header.Value)
	}
	require.Len(t, readable.Headers, len(record.Headers), "no header twice")
	path := filepath.Join("testdata", name+".json")
	got, err := json.Marshal(readable)
	require.NoError(t, err)
	if *update {
		writeGoldenJSON(t, path, got)
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(got))
}

func sampleObject() Object {
	o := Object{
		Generation: 1, Source: "prod-eu", Endpoint: "aws", Region: "eu-north-1", Bucket: "audit", Key: "2026/01/01/a b+c.gz",
		ETag: "9b2cf535f27731c974343645a3985328-2", Version: "3sL4kqtJlcpXroDTDmJ", Size: 1048576,
		LastModified: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), AnnouncedAt: time.Date(2026, 1, 1, 0, 0, 5, 0, time.UTC),
		Cause: CauseContinued, FromLine: 4711, FromByte: 8388608, Splitting: SplitLines, Attempt: 1,
	}
	o.ID = identity.ObjectID(o.Endpoint, o.Bucket, o.Key, o.ETag)
	return o
}

func TestObjectRecord(t *testing.T) {
	object := sampleObject()
	record, err := object.Record(Objects)
	require.NoError(t, err)
	requireGoldenRecord(t, "object", record)
	decoded, err := DecodeObject(record.Value)
	require.NoError(t, err)
	require.Equal(t, object, decoded)
}

func TestObjectRefusesWhatIsNone(t *testing.T) {
	for name, spoil := range map[string]func(*Object){
		"another id":       func(o *Object) { o.ID = strings.Repeat("0", 32) },
		"no bucket":        func(o *Object) { o.Bucket = "" },
		"no source":        func(o *Object) { o.Source = "" },
		"no cause":         func(o *Object) { o.Cause = "" },
		"line 0":           func(o *Object) { o.FromLine = 0 },
		"byte -1":          func(o *Object) { o.FromByte = -1 },
		"attempt -1":       func(o *Object) { o.Attempt = -1 },
		"another etag":     func(o *Object) { o.ETag = "other" },
		"another endpoint": func(o *Object) { o.Endpoint = "minio" },
	} {
		t.Run(name, func(t *testing.T) {
			object := sampleObject()
			spoil(&object)
			_, err := object.Record(Objects)
			require.Error(t, err)
			value, err := json.Marshal(object)
			require.NoError(t, err)
			_, err = DecodeObject(value)
			require.ErrorIs(t, err, ErrMalformed)
		})
	}
	_, err := DecodeObject([]byte(`{"id":`))
	require.ErrorIs(t, err, ErrMalformed)
}

func TestRawLineRecord(t *testing.T) {
	line := RawLine{Source: "prod-eu", Object: sampleObject().ID, Line: 42, ReceivedAt: 1767225600123, Bytes: []byte(`{"kind":"Event"}`)}
	record := line.Record(Raw)
	requireGoldenRecord(t, "raw", record)
	decoded, err := DecodeRawLine(record)
	require.NoError(t, err)
	require.Equal(t, line, decoded)

	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := DecodeRawLine(record); err != nil {
			t.Fatal(err)
		}
	}))

	for missing := range record.Headers {
		spoilt := *record
		spoilt.Headers = append(append([]kgo.RecordHeader{}, record.Headers[:missing]...), record.Headers[missing+1:]...)
		_, err := DecodeRawLine(&spoilt)
		require.ErrorIs(t, err, ErrMalformed, "without %s", record.Headers[missing].Key)
	}
	spoilt := *record
	spoilt.Headers = append([]kgo.RecordHeader{}, record.Headers...)
	spoilt.Headers[2].Value = []byte("4x")
	_, err = DecodeRawLine(&spoilt)
	require.ErrorIs(t, err, ErrMalformed)
}

func TestDeadLetterRecord(t *testing.T) {
	letter := DeadLetterRecord{
		Stage: "enricher", Reason: "not-json", Error: "line 42: unexpected end", Topic: Raw, Partition: 3, Offset: 1 << 40,
		Source: "prod-eu", Object: sampleObject().ID, Line: 42, Event: 2, ReceivedAt: 1767225600123, Bytes: []byte(`{"kind":`),
	}
	record := letter.Record(DeadLetter)
	requireGoldenRecord(t, "deadletter", record)
	decoded, err := DecodeDeadLetter(record)
	require.NoError(t, err)
	require.Equal(t, letter, decoded)

	_, err = DecodeDeadLetter(&kgo.Record{Value: []byte("x")})
	require.ErrorIs(t, err, ErrMalformed)
}

func TestRecordsOfWhatIsDoneAgain(t *testing.T) {
	for extent, name := range map[event.Extent]string{
		event.OneEvent: "raw-event", event.RestOfLine: "raw-rest", event.PartOfLine: "raw-part",
	} {
		line := RawLine{
			Source: "prod-eu", Object: sampleObject().ID, Line: 42, ReceivedAt: 1767225600123, Bytes: []byte(`{"kind":"Event"}`),
			Extent: extent, Event: 3,
		}
		record := line.Record(Raw)
		requireGoldenRecord(t, name, record)
		decoded, err := DecodeRawLine(record)
		require.NoError(t, err)
		require.Equal(t, line, decoded)

		letter := DeadLetterRecord{
			Stage: "enricher", Reason: "not-json", Topic: Raw, Partition: 3, Offset: 7, Source: "prod-eu", Object: sampleObject().ID,
			Line: 42, Event: 3, ReceivedAt: 1767225600123, Extent: extent, Bytes: []byte(`{"kind":`), Size: 4711,
		}
		record = letter.Record(DeadLetter)
		requireGoldenRecord(t, "deadletter-"+name, record)
		again, err := DecodeDeadLetter(record)
		require.NoError(t, err)
		require.Equal(t, letter, again)
	}
	line := RawLine{Source: "prod-eu", Object: sampleObject().ID, Line: 42, Extent: event.OneEvent, Event: 3}
	for key, value := range map[string]string{HeaderExtent: "newer", HeaderEvent: "-1"} {
		record := line.Record(Raw)
		for i := range record.Headers {
			if record.Headers[i].Key == key {
				record.Headers[i].Value = []byte(value)
			}
		}
		_, err := DecodeRawLine(record)
		require.ErrorIs(t, err, ErrMalformed, key)
	}
}

func TestRetriedRecord(t *testing.T) {
	retried := Retried{Partition: 3, Offset: 1 << 40, Topic: Raw, Object: sampleObject().ID}
	record := retried.Record(DeadLetter)
	requireGoldenRecord(t, "retried", record)
	require.True(t, IsRetried(record))
	decoded, err := DecodeRetried(record)
	require.NoError(t, err)
	require.Equal(t, retried, decoded)

	_, err = DecodeDeadLetter(record)
	require.ErrorIs(t, err, ErrMalformed)
	letter := DeadLetterRecord{Stage: "enricher", Reason: "not-json"}
	require.False(t, IsRetried(letter.Record(DeadLetter)))
	for _, spoilt := range []string{"", "3", "3/", "/7", "3/-7", "-3/7", "x/7", "99999999999/7"} {
		record.Headers[0].Value = []byte(spoilt)
		_, err := DecodeRetried(record)
		require.ErrorIs(t, err, ErrMalformed, spoilt)
	}
}

func TestDeadLetterBoundsTheErrorText(t *testing.T) {
	letter := DeadLetterRecord{Stage: "enricher", Reason: "not-json", Error: strings.Repeat("ä", 10_000) + "\xff"}
	decoded, err := DecodeDeadLetter(letter.Record(DeadLetter))
	require.NoError(t, err)
	require.LessOrEqual(t, len(decoded.Error), maxErrorText)
	require.True(t, utf8.ValidString(decoded.Error))
	require.Greater(t, len(decoded.Error), maxErrorText-utf8.UTFMax)
}

func TestParseURI(t *testing.T) {
	object := sampleObject()
	bucket, key, isURI := ParseURI(object.URI())
	require.Equal(t, []any{object.Bucket, object.Key, true}, []any{bucket, key, isURI})
	for text, want := range map[string][]any{
		"s3://bucket/a/b:c.log": {"bucket", "a/b:c.log", true}, "s3://bucket//": {"bucket", "/", true},
		"s3://": {"", "", true}, "s3://bucket": {"", "", true}, "s3://bucket/": {"", "", true}, "s3:///key": {"", "", true},
		"": {"", "", false}, "bucket/key": {"", "", false}, "S3://bucket/key": {"", "", false}, "https://bucket/key": {"", "", false},
	} {
		bucket, key, isURI := ParseURI(text)
		require.Equal(t, want, []any{bucket, key, isURI}, text)
	}
}
