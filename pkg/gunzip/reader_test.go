package gunzip_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	kgzip "github.com/klauspost/compress/gzip"

	"github.com/auditstream/auditstream/pkg/generate"
	"github.com/auditstream/auditstream/pkg/gunzip"
)

func auditLines(t testing.TB, size int) []byte {
	generator, err := generate.New(generate.Options{Seed: 7, Shape: generate.Mixed})
	require.NoError(t, err)
	var out, line []byte
	for len(out) < size {
		line, _ = generator.AppendLine(line[:0])
		out = append(append(out, line...), '\n')
	}
	return out
}

func zip(t testing.TB, level int, parts ...[]byte) []byte {
	var out bytes.Buffer
	for _, part := range parts {
		writer, err := gzip.NewWriterLevel(&out, level)
		require.NoError(t, err)
		_, err = writer.Write(part)
		require.NoError(t, err)
		require.NoError(t, writer.Close())
	}
	return out.Bytes()
}

// contents are what compresses in different ways.
func contents(t testing.TB) map[string][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	skewed := make([]byte, 300_000) // long codes
	for i := range skewed {
		skewed[i] = byte(random.ExpFloat64() * 12)
	}
	return map[string][]byte{
		"empty":        {},
		"one byte":     {'x'},
		"audit lines":  auditLines(t, 2_000_000),
		"noise":        noise,
		"skewed":       skewed,
		"one run":      bytes.Repeat([]byte{' '}, 500_000),
		"short period": bytes.Repeat([]byte("abc"), 100_000),
		"far matches":  bytes.Repeat(noise[:32_768], 4),
	}
}

func TestReaderGivesWhatWasCompressed(t *testing.T) {
	for name, content := range contents(t) {
		t.Run(name, func(t *testing.T) {
			var reader gunzip.Reader
			for _, level := range []int{gzip.HuffmanOnly, gzip.NoCompression, gzip.BestSpeed, gzip.DefaultCompression, gzip.BestCompression} {
				zipped := zip(t, level, content)
				for how, source := range map[string]io.Reader{
					"whole": bytes.NewReader(zipped), "in halves": iotest.HalfReader(bytes.NewReader(zipped)), "by byte": iotest.OneByteReader(bytes.NewReader(zipped)),
				} {
					require.NoError(t, reader.Reset(bufio.NewReader(source)))
					have, err := io.ReadAll(&reader)
					require.NoError(t, err, "level %d, %s", level, how)
					require.True(t, bytes.Equal(content, have), "level %d, %s", level, how)
				}
			}
		})
	}
}

func TestReaderInAnyRoom(t *testing.T) {
	content := append(auditLines(t, 400_000), contents(t)["skewed"]...)
	zipped := zip(t, gzip.DefaultCompression, content[:100_000], nil, content[100_000:])
	random := rand.New(rand.NewPCG(3, 4))
	var reader gunzip.Reader
	for _, most := range []int{1, 7, 300, 5_000, 40_000, 200_000} {
		require.NoError(t, reader.Reset(bufio.NewReaderSize(bytes.NewReader(zipped), 1+random.IntN(70_000))))
		var have []byte
		for {
			p := bytes.Repeat([]byte{0xaa}, 1+random.IntN(most))
			n, err := reader.Read(p)
			have = append(have, p[:n]...)
			clear(p)           // the reader may not look at it again
			if err == io.EOF { //nolint:errorlint // bare, as io.Reader has it
				break
			}
			require.NoError(t, err)
		}
		require.True(t, bytes.Equal(content, have), "%d", most)
	}
}

func TestReaderHeader(t *testing.T) {
	var zipped bytes.Buffer
	writer := gzip.NewWriter(&zipped)
	writer.Name, writer.Comment, writer.Extra = "audit.log", "of today", []byte("extra")
	_, err := writer.Write([]byte("content"))
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	var reader gunzip.Reader
	require.NoError(t, reader.Reset(bufio.NewReader(&zipped)))
	have, err := io.ReadAll(&reader)
	require.NoError(t, err)
	assert.Equal(t, "content", string(have))
}

// Whatever the bytes, the outcome is that of compress/gzip: what is given before
// an error is the same, and so is whether there is one.
func agree(t *testing.T, data []byte) {
	t.Helper()
	var want []byte
	reference, wantErr := gzip.NewReader(bytes.NewReader(data))
	if wantErr == nil {
		want, wantErr = io.ReadAll(io.LimitReader(reference, 16<<20))
	}
	var reader gunzip.Reader
	var have []byte
	haveErr := reader.Reset(bufio.NewReader(bytes.NewReader(data)))
	if haveErr == nil {
		have, haveErr = io.ReadAll(io.LimitReader(&reader, 16<<20))
	}
	require.Equal(t, wantErr == nil, haveErr == nil, "want %v, have %v", wantErr, haveErr)
	if errors.Is(wantErr, io.EOF) || errors.Is(wantErr, io.ErrUnexpectedEOF) {
		assert.Contains(t, []error{wantErr, gunzip.ErrCorrupt}, haveErr)
	}
	if wantErr == nil {
		require.True(t, bytes.Equal(want, have))
		return
	}
	// Where exactly they notice differs by the symbols under way.
	n := min(len(want), len(have))
	require.True(t, bytes.Equal(want[:n], have[:n]))
}

func TestReaderRefusesWhatIsBroken(t *testing.T) {
	zipped := zip(t, gzip.DefaultCompression, auditLines(t, 50_000), []byte("second"))
	for end := range zipped {
		if end < 100 || end > len(zipped)-100 || end%97 == 0 {
			agree(t, zipped[:end])
		}
	}
	random := rand.New(rand.NewPCG(5, 6))
	for range 3_000 {
		broken := bytes.Clone(zipped)
		broken[random.IntN(len(broken))] ^= 1 << random.IntN(8)
		agree(t, broken)
	}
	agree(t, append(bytes.Clone(zipped), 0, 0, 0))
	agree(t, append(bytes.Clone(zipped), "trailing"...))
}

func TestReaderPassesOnTheSourcesError(t *testing.T) {
	zipped := zip(t, gzip.DefaultCompression, auditLines(t, 50_000))
	var reader gunzip.Reader
	require.NoError(t, reader.Reset(bufio.NewReader(io.MultiReader(bytes.NewReader(zipped[:3_000]), iotest.ErrReader(iotest.ErrTimeout)))))
	have, err := io.ReadAll(&reader)
	require.ErrorIs(t, err, iotest.ErrTimeout)
	assert.NotEmpty(t, have)
	_, err = reader.Read(make([]byte, 1))
	require.ErrorIs(t, err, iotest.ErrTimeout, "it stays")
}

// What has come is given before the source is asked for more.
func TestReaderDoesNotWaitWithWhatItHas(t *testing.T) {
	var zipped bytes.Buffer
	writer := gzip.NewWriter(&zipped)
	_, err := writer.Write(bytes.Repeat([]byte("a line\n"), 1_000))
	require.NoError(t, err)
	require.NoError(t, writer.Flush())
	waits := iotest.ErrReader(iotest.ErrTimeout)
	var reader gunzip.Reader
	require.NoError(t, reader.Reset(bufio.NewReader(io.MultiReader(&zipped, waits))))
	p := make([]byte, 100_000)
	n, err := reader.Read(p)
	require.NoError(t, err)
	assert.Positive(t, n)
}

func FuzzReader(f *testing.F) {
	lines := auditLines(f, 5_000)
	for _, level := range []int{gzip.HuffmanOnly, gzip.NoCompression, gzip.BestSpeed, gzip.DefaultCompression} {
		f.Add(zip(f, level, lines[:2_000], lines[2_000:]))
	}
	f.Add(zip(f, gzip.DefaultCompression, bytes.Repeat([]byte("ab"), 3_000)))
	f.Fuzz(func(t *testing.T, data []byte) { agree(t, data) })
}

func BenchmarkReader(b *testing.B) {
	lines := auditLines(b, 32<<20)
	zipped := zip(b, gzip.DefaultCompression, lines)
	p := make([]byte, 256<<10)
	b.Run("gunzip", func(b *testing.B) {
		b.SetBytes(int64(len(lines)))
		var reader gunzip.Reader
		for b.Loop() {
			_ = reader.Reset(bufio.NewReaderSize(bytes.NewReader(zipped), 64<<10))
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{&reader}, p)
			require.NoError(b, err)
			require.EqualValues(b, len(lines), n)
		}
	})
	b.Run("klauspost", func(b *testing.B) {
		b.SetBytes(int64(len(lines)))
		var reader kgzip.Reader
		for b.Loop() {
			_ = reader.Reset(bufio.NewReaderSize(bytes.NewReader(zipped), 64<<10))
			_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{&reader}, p)
		}
	})
}
