package split

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/require"
)

// frames gives one frame of each kind for a text.
var frames = map[string]func(t *testing.T, text string) []byte{
	"gzip": func(t *testing.T, text string) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		w.Name, w.Comment, w.Extra = "audit.log", "of a day", []byte("more")
		_, err := w.Write([]byte(text))
		require.NoError(t, errors.Join(err, w.Close()))
		return out.Bytes()
	},
	"zstd": func(t *testing.T, text string) []byte {
		var out bytes.Buffer
		w, err := zstd.NewWriter(&out)
		require.NoError(t, err)
		_, err = w.Write([]byte(text))
		require.NoError(t, errors.Join(err, w.Close()))
		return out.Bytes()
	},
	"zstd without checksum": func(t *testing.T, text string) []byte {
		var out bytes.Buffer
		w, err := zstd.NewWriter(&out, zstd.WithEncoderCRC(false))
		require.NoError(t, err)
		_, err = w.Write([]byte(text))
		require.NoError(t, errors.Join(err, w.Close()))
		return out.Bytes()
	},
	"zstd after a skippable frame": func(t *testing.T, text string) []byte {
		var out bytes.Buffer
		w, err := zstd.NewWriter(nil)
		require.NoError(t, err)
		out.WriteString("\x50\x2a\x4d\x18\x03\x00\x00\x00abc")
		out.Write(w.EncodeAll([]byte(text), nil))
		return out.Bytes()
	},
	"lz4": func(t *testing.T, text string) []byte {
		var out bytes.Buffer
		w := lz4.NewWriter(&out)
		_, err := w.Write([]byte(text))
		require.NoError(t, errors.Join(err, w.Close()))
		return out.Bytes()
	},
	"lz4 without checksum": func(t *testing.T, text string) []byte {
		var out bytes.Buffer
		w := lz4.NewWriter(&out)
		require.NoError(t, w.Apply(lz4.ChecksumOption(false), lz4.BlockSizeOption(lz4.Block64Kb)))
		_, err := w.Write([]byte(text))
		require.NoError(t, errors.Join(err, w.Close()))
		return out.Bytes()
	},
	"snappy": func(t *testing.T, text string) []byte {
		var out bytes.Buffer
		w := s2.NewWriter(&out, s2.WriterSnappyCompat())
		_, err := w.Write([]byte(text))
		require.NoError(t, errors.Join(err, w.Close()))
		return out.Bytes()
	},
	"bzip2": func(t *testing.T, text string) []byte {
		path, err := exec.LookPath("bzip2")
		if err != nil {
			return nil
		}
		command := exec.Command(path, "-c")
		command.Stdin = bytes.NewReader([]byte(text))
		out, err := command.Output()
		require.NoError(t, err)
		return out
	},
}

// silent tells where a frame may end without anyone knowing of it: a stream of
// Snappy has no end mark, and what is skipped in zstd is a frame by itself.
var silent = map[string]int{"snappy": 10, "zstd after a skippable frame": 11}

// An object that is cut within a frame ends in an error, wherever the cut is.
func TestCutAnywhere(t *testing.T) {
	for name, frame := range frames {
		t.Run(name, func(t *testing.T) {
			one, two := frame(t, "first\nsecond\n"), frame(t, "third\nfourth\n")
			if one == nil {
				t.Skip("no bzip2 on this machine")
			}
			whole := append(bytes.Clone(one), two...)
			for n := longestMagic; n < len(whole); n++ {
				lines, err := readAll(whole[:n])
				at := fmt.Sprintf("the first %d of %d bytes, the second frame begins at %d: %q", n, len(whole), len(one), lines)
				if past := silent[name]; n == len(one) || past > 0 && (n == past || n == len(one)+past) {
					require.NoError(t, err, at)
					continue
				}
				require.ErrorIs(t, err, errCorrupt, at)
			}
			lines, err := readAll(whole)
			require.NoError(t, err)
			require.Equal(t, []string{"first", "second", "third", "fourth"}, lines)
		})
	}
}

func readAll(content []byte) (lines []string, err error) {
	r := NewReader(bytes.NewReader(content), Limits{})
	defer r.Close()
	for {
		line, err := r.Next()
		if err == io.EOF { //nolint:errorlint // bare, by contract
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
		lines = append(lines, string(line.Text))
	}
}
