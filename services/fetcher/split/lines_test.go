package split

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

type plainLine struct {
	Text    string
	Length  int64
	Size    int64
	TooLong bool
}

// readLines reads all lines, pausing whenever allowance is used up.
func readLines(t testing.TB, source io.Reader, limit int, allowance int64) ([]plainLine, error) {
	t.Helper()
	reader := newLineReader(window{source: source, blocks: new(blocks)}, limit)
	var given []line
	var err error
	for pauses := 0; ; {
		var l line
		l, err = reader.next(allowance)
		if errors.Is(err, errPaused) {
			pauses++
			if pauses > 1<<20 {
				t.Fatal("no progress")
			}
			reader.compact()
			continue
		}
		if err != nil {
			break
		}
		given = append(given, l)
	}
	// Only now are the texts looked at: nothing read later may have touched them.
	lines := make([]plainLine, len(given))
	for i, l := range given {
		lines[i] = plainLine{string(l.text), l.length, l.size, l.tooLong}
	}
	if err == io.EOF {
		err = nil
	}
	return lines, err
}

// expectLines is the plain way to say what the lines are.
func expectLines(data string, limit int) []plainLine {
	lines := []plainLine{}
	for data != "" {
		text, rest, ended := strings.Cut(data, "\n")
		size := int64(len(text))
		if ended {
			size++
			text = strings.TrimSuffix(text, "\r")
		}
		l := plainLine{Text: text, Length: int64(len(text)), Size: size}
		if len(text) > limit {
			l.TooLong = true
			l.Text = text[:min(len(text), headOfLongLine)]
		}
		lines = append(lines, l)
		data = rest
	}
	return lines
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 3*headOfLongLine)
	for _, test := range []struct {
		name, data string
		limit      int
	}{
		{"nothing", "", 10},
		{"one line", "abc\n", 10},
		{"no last newline", "abc\ndef", 10},
		{"CRLF", "abc\r\ndef\r\n", 10},
		{"CR stays in the middle and at the end", "a\rb\n\r\r\nc\r", 10},
		{"blank lines", "\n\r\n\nabc\n\n", 10},
		{"exactly the limit", "0123456789\r\n0123456789\n0123456789", 10},
		{"one over the limit", "0123456789a\r\n0123456789a\n0123456789a", 10},
		{"CR counts when it ends nothing", "0123456789\r", 10},
		{"long between short", "a\n" + long + "\nb\n" + long + "\r\n" + long, 100},
		{"CR at the end of the head", strings.Repeat("x", headOfLongLine-1) + "\r\n", 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, source := range map[string]io.Reader{
				"whole":         strings.NewReader(test.data),
				"byte by byte":  iotest.OneByteReader(strings.NewReader(test.data)),
				"data with EOF": iotest.DataErrReader(strings.NewReader(test.data)),
			} {
				for _, allowance := range []int64{0, 5, 1 << 30} {
					got, err := readLines(t, source, test.limit, allowance)
					require.NoError(t, err)
					require.Empty(t, cmp.Diff(expectLines(test.data, test.limit), got), "%s, allowance %d", name, allowance)
					source = strings.NewReader(test.data)
				}
			}
		})
	}
}

func TestLinesBeforeAnError(t *testing.T) {
	broken := errors.New("broken")
	got, err := readLines(t, io.MultiReader(strings.NewReader("a\nb\npart"), iotest.ErrReader(broken)), 10, 1<<20)
	require.ErrorIs(t, err, broken)
	require.Equal(t, expectLines("a\nb\n", 10), got)

	_, err = readLines(t, stuck{}, 10, 1<<20)
	require.ErrorIs(t, err, io.ErrNoProgress)
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// randomChunks gives between none and size bytes at a time.
type randomChunks struct {
	source io.Reader
	size   int
	random *rand.Rand
}

func (r *randomChunks) Read(p []byte) (int, error) {
	return r.source.Read(p[:min(len(p), r.random.IntN(r.size+1))])
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\r\n\n\nlonger line than that\r\nlast"), uint16(5), uint16(3), uint64(1))
	f.Add(bytes.Repeat([]byte("0123456789\r\n"), 500), uint16(100), uint16(999), uint64(2))
	f.Add(bytes.Repeat([]byte("0123456789"), 20000), uint16(100), uint16(40000), uint64(3))
	f.Fuzz(func(t *testing.T, data []byte, limit, chunk uint16, seed uint64) {
		source := &randomChunks{bytes.NewReader(data), int(chunk) + 1, rand.New(rand.NewPCG(seed, 1))}
		got, err := readLines(t, source, int(limit), int64(chunk))
		require.NoError(t, err)
		want := expectLines(string(data), int(limit))
		if !slices.Equal(want, got) {
			t.Fatal(fmt.Sprintf("limit %d chunk %d seed %d", limit, chunk, seed), cmp.Diff(want, got))
		}
	})
}
