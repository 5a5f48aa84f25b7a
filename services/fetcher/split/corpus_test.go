package split

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/topics"
)

// Real and constructed files of shippers: those of values have the values that
// encoding/json finds in them.
func TestCorpus(t *testing.T) {
	root := os.Getenv("AUDITSTREAM_CORPUS")
	if root == "" {
		root = filepath.Join("..", "..", "..", "..", "shared", "corpus")
	}
	if _, err := os.Stat(root); err != nil {
		t.Skipf("the corpus of real audit logs is not at %s (AUDITSTREAM_CORPUS names another place)", root)
	}
	values, lines := 0, 0
	for _, pattern := range []string{"wrappers_*/*", "constructed/*", "audit_events/*"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, file := range files {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			if splittingOf(data[:min(len(data), decisive)], len(data) <= decisive) == topics.SplitLines {
				lines++
				continue
			}
			values++
			got, _ := readValues(t, bytes.NewReader(data), 16<<20, 1<<30, place{})
			want, whole := decoded(data)
			if !whole {
				continue
			}
			require.Equal(t, want, texts(got), file)
		}
	}
	t.Logf("%d files of values, %d of lines", values, lines)
	require.Positive(t, values)
	require.Positive(t, lines)
}

// decoded are the values as encoding/json has them, lists at the top entered.
func decoded(data []byte) (texts []string, whole bool) {
	decoder := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, byteOrderMark)))
	for {
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return texts, errors.Is(err, io.EOF)
		}
		var elements []json.RawMessage
		var records struct{ Records []json.RawMessage }
		inside, _, _ := entrance(value)
		switch {
		case inside == topics.InsideList && json.Unmarshal(value, &elements) == nil:
		case inside == topics.InsideRecords && json.Unmarshal(value, &records) == nil:
			elements = records.Records
		default:
			elements = []json.RawMessage{value}
		}
		for _, element := range elements {
			texts = append(texts, string(element))
		}
	}
}
