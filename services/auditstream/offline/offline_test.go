package offline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/services/auditstream/offline"
	"github.com/auditstream/auditstream/services/fetcher/split"
)

const event = `{"kind":"Event","auditID":"a","stage":"ResponseComplete","verb":"get"}` + "\n"

func TestNormalizeReportsWhatCantBeRead(t *testing.T) {
	var rows, rejections bytes.Buffer
	n, err := offline.New(offline.Options{Source: &audit.Source{}, Limits: split.Limits{Line: 100}, Rows: &rows, Rejections: &rejections})
	require.NoError(t, err)
	broken := iotest.DataErrReader(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(event))))
	require.NoError(t, n.Normalize(t.Context(), offline.Input{Name: "a.log", Reader: broken}))
	require.Equal(t, "a.log:1: object-unavailable: timeout, after 0 whole lines\n", rejections.String())
	require.Empty(t, rows.String())
	require.Equal(t, int64(1), n.Rejected())
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestNormalizeStopsWhenItCantWrite(t *testing.T) {
	for _, one := range []offline.Options{
		{Rows: fullDisk{}, Rejections: new(bytes.Buffer)},
		{Rows: new(bytes.Buffer), Rejections: fullDisk{}},
	} {
		one.Source, one.Limits.Line = &audit.Source{}, 100
		n, err := offline.New(one)
		require.NoError(t, err)
		err = n.Normalize(t.Context(), offline.Input{Reader: strings.NewReader(strings.Repeat(event+"x\n", 10_000))})
		require.ErrorContains(t, err, "no space left on device")
	}
}

func TestNormalizeNoticesCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n, err := offline.New(offline.Options{Source: &audit.Source{}, Limits: split.Limits{Line: 100}, Rows: new(bytes.Buffer), Rejections: new(bytes.Buffer)})
	require.NoError(t, err)
	err = n.Normalize(ctx, offline.Input{Reader: strings.NewReader(strings.Repeat(event, 10_000))})
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, n.Lines(), int64(10_000))
}

func FuzzNormalize(f *testing.F) {
	f.Add([]byte(event + "\n\r\nx" + event))
	f.Add([]byte("\x1f\x8b"))
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte(strings.Repeat("y", 300) + "\r\n" + event))
	f.Fuzz(func(t *testing.T, input []byte) {
		const limit = 200
		var rows, rejections bytes.Buffer
		n, err := offline.New(offline.Options{Source: &audit.Source{ID: "a"}, Limits: split.Limits{Line: limit}, Rows: &rows, Rejections: &rejections})
		require.NoError(t, err)
		require.NoError(t, n.Normalize(t.Context(), offline.Input{Name: "in", Reader: bytes.NewReader(input)}))
		require.Equal(t, n.Events(), int64(bytes.Count(rows.Bytes(), []byte("\n"))))
		for line := range bytes.Lines(rows.Bytes()) {
			require.True(t, json.Valid(line), "%q", line)
		}
		// What may be compressed, or values, has lines of its own.
		if start := bytes.TrimLeft(input, " \t\r\n\xef\xbb\xbf"); len(start) == 0 || bytes.IndexByte([]byte("{[\x1f\x28B\x04\xff\x50\x51\x52\x53\x54\x55\x56\x57\x58\x59\x5a\x5b\x5c\x5d\x5e\x5f"), start[0]) >= 0 {
			return
		}
		lines := int64(bytes.Count(input, []byte("\n")))
		if len(input) > 0 && !bytes.HasSuffix(input, []byte("\n")) {
			lines++
		}
		require.Equal(t, lines, n.Lines())
	})
}
