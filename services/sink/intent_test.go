package sink

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/tests/golden"
	"github.com/auditstream/auditstream/topics"
)

func sampleMetadata() metadata {
	return metadata{Topic: "0123456789abcdef0123456789abcdef", Intent: &intent{
		from: 1200, To: 1950, Records: 750, IDs: hash{1, 2, 3, 15: 255}, Attempt: 2,
		Target: "0/default.kubernetes_audit_logs", At: 1780272000,
	}}
}

// What is committed is read by other versions: the text must not change.
func TestMetadataGolden(t *testing.T) {
	var got strings.Builder
	for _, m := range []metadata{sampleMetadata(), {Topic: "0123456789abcdef0123456789abcdef"}, {}, {Run: &run{ID: "r1", Until: 7}}} {
		text, err := m.encode()
		require.NoError(t, err)
		got.WriteString(text + "\n")
		decoded, err := decodeMetadata(1200, text)
		require.NoError(t, err)
		require.Equal(t, m, decoded)
	}
	got.WriteString(sampleMetadata().Intent.token("normalized", 3, nil) + "\n")
	golden.Equal(t, "testdata/metadata.golden", got.String())
}

func TestMetadataOfOthersSaysNothing(t *testing.T) {
	for _, text := range []string{"", "kgo-5f2c8e3a", "consumer-1-uuid", `{"to":1}`} {
		m, err := decodeMetadata(1, text)
		require.NoError(t, err)
		require.Equal(t, metadata{}, m)
	}
}

func TestMetadataRefused(t *testing.T) {
	good, err := sampleMetadata().encode()
	require.NoError(t, err)
	_, err = decodeMetadata(1200, strings.Replace(good, "auditstream/1 ", "auditstream/2 ", 1))
	require.ErrorIs(t, err, errNewerMetadata)
	for name, text := range map[string]string{
		"cut":           good[:len(good)-5],
		"unknown field": strings.Replace(good, `"attempt"`, `"attempts"`, 1),
		"no attempt":    strings.Replace(good, `"attempt":2`, `"attempt":0`, 1),
		"short hash":    strings.Replace(good, `"ids":"01`, `"ids":"`, 1),
		"more":          good + "{}",
		"too many":      strings.Replace(good, `"records":750`, `"records":751`, 1),
	} {
		_, err := decodeMetadata(1200, text)
		require.Error(t, err, name)
		require.NotErrorIs(t, err, errNewerMetadata)
	}
	_, err = decodeMetadata(1950, good) // `to` must be past the offset
	require.Error(t, err)
	_, err = metadata{Intent: &intent{Target: strings.Repeat("x", 1000)}}.encode()
	require.ErrorContains(t, err, "shorten")
}

func TestTokenTellsAttemptsApart(t *testing.T) {
	seen := make(map[string]bool)
	for _, change := range []func(*intent){
		func(*intent) {}, func(i *intent) { i.from++ }, func(i *intent) { i.To++ }, func(i *intent) { i.Attempt++ }, func(i *intent) { i.IDs[0]++ },
	} {
		i := *sampleMetadata().Intent
		change(&i)
		seen[i.token("a", 1, nil)] = true
	}
	i := sampleMetadata().Intent
	seen[i.token("b", 1, nil)], seen[i.token("a", 2, nil)] = true, true
	require.Len(t, seen, 7)
	i.Target, i.At = "other", 1 // where and when are not what
	require.True(t, seen[i.token("a", 1, nil)])
	require.False(t, seen[i.token("a", 1, &run{ID: "r", Until: 5})], "another run is other work")
}

func FuzzDecodeMetadata(f *testing.F) {
	good, _ := sampleMetadata().encode()
	f.Add(int64(1200), good)
	f.Add(int64(0), "auditstream/1 {}")
	f.Fuzz(func(t *testing.T, offset int64, text string) {
		m, err := decodeMetadata(offset, text)
		if err == nil && m.Intent != nil {
			require.Greater(t, m.Intent.To, offset)
		}
	})
}

func FuzzRowID(f *testing.F) {
	row := event.Row{WorkspaceID: "w", SourceID: "s", ID: "an id", RawLog: []byte("x")}
	f.Add(topics.AppendNormalized(nil, &row))
	f.Fuzz(func(t *testing.T, value []byte) {
		id, err := (eventTable{}).RowID(value)
		var decoded event.Row
		if topics.DecodeNormalized(value, &decoded) == nil && err == nil && id != decoded.ID {
			// Protocol Buffers let a field come twice; the encoder never does that.
			require.Contains(t, string(value), decoded.ID)
		}
	})
}
