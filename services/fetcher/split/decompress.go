package split

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// errTooLarge: the object decompresses to more than is allowed.
var errTooLarge = errors.New("object too large")

const (
	// longestMagic is how many bytes it takes to know how an object is compressed.
	longestMagic = 10
	// zstdWindow is the largest that the zstd tool accepts by itself.
	zstdWindow = 128 << 20
	// snappyBlock is the largest of S2, whose frames hold those of Snappy.
	snappyBlock = 4 << 20
	// freeExpansion is how many bytes an object may always decompress to.
	freeExpansion = 16 << 20
)

// compression is a way in which objects are compressed. It is told by content:
// names lie, and buckets are full of both.
type compression struct {
	name  string
	magic func([]byte) bool
	// reader decompresses every frame there is, one after the other; release takes
	// it back.
	reader func(*bufio.Reader) (reader io.Reader, release func(), err error)
}

var compressions = []compression{
	{"gzip", startsWith("\x1f\x8b\x08"), gunzip},
	{"zstd", isZstd, unzstd},
	{"bzip2", isBzip2, func(r *bufio.Reader) (io.Reader, func(), error) { return bzip2.NewReader(r), func() {}, nil }},
	{"lz4", startsWith("\x04\x22\x4d\x18"), unlz4},
	{"snappy", isSnappy, unsnappy},
}

func startsWith(magic string) func([]byte) bool {
	return func(data []byte) bool { return bytes.HasPrefix(data, []byte(magic)) }
}

// isZstd takes skippable frames for zstd's, whose parallel tools begin with them.
func isZstd(data []byte) bool {
	return startsWith("\x28\xb5\x2f\xfd")(data) ||
		len(data) > 3 && data[0]&0xf0 == 0x50 && bytes.Equal(data[1:4], []byte("\x2a\x4d\x18"))
}

func isBzip2(data []byte) bool {
	if len(data) < longestMagic || string(data[:3]) != "BZh" || data[3] < '1' || data[3] > '9' {
		return false
	}
	block := string(data[4:longestMagic])
	return block == "\x31\x41\x59\x26\x53\x59" || block == "\x17\x72\x45\x38\x50\x90"
}

func isSnappy(data []byte) bool {
	return startsWith("\xff\x06\x00\x00sNaPpY")(data) || startsWith("\xff\x06\x00\x00S2sTwO")(data)
}

var (
	gunzips sync.Pool // of *gzip.Reader
	unzstds sync.Pool // of *zstd.Decoder
)

func gunzip(from *bufio.Reader) (io.Reader, func(), error) {
	reader, _ := gunzips.Get().(*gzip.Reader)
	if reader == nil {
		reader = new(gzip.Reader)
	}
	m := &members{reader: reader, from: from}
	return m, func() { gunzips.Put(reader) }, m.begin()
}

// members gives what is in the members of a gzip stream. The library, left to
// go from one to the next by itself, takes a header that is cut within its file
// name for the end.
type members struct {
	reader *gzip.Reader
	from   *bufio.Reader
	err    error // for good
}

func (m *members) begin() error {
	err := m.reader.Reset(m.from)
	m.reader.Multistream(false)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Read implements io.Reader.
func (m *members) Read(p []byte) (int, error) {
	for m.err == nil {
		n, err := m.reader.Read(p)
		if err != io.EOF {
			return n, err
		}
		if n > 0 {
			return n, nil // the next Read finds the member's end again
		}
		if _, m.err = m.from.Peek(1); m.err == nil {
			m.err = m.begin()
		}
	}
	return 0, m.err
}

func unzstd(from *bufio.Reader) (io.Reader, func(), error) {
	decoder, _ := unzstds.Get().(*zstd.Decoder)
	if decoder == nil {
		var err error
		decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, func() {}, err
		}
	}
	release := func() {
		if decoder.Reset(nil) == nil {
			unzstds.Put(decoder)
		}
	}
	return decoder, release, decoder.Reset(from)
}

func unlz4(from *bufio.Reader) (io.Reader, func(), error) {
	reader := lz4.NewReader(from)
	return reader, func() { reader.Reset(nil) }, reader.Apply(lz4.ConcurrencyOption(1))
}

func unsnappy(from *bufio.Reader) (io.Reader, func(), error) {
	return s2.NewReader(from, s2.ReaderMaxBlockSize(snappyBlock), s2.ReaderAllocBlock(64<<10)), func() {}, nil
}

// bounds of what an object may decompress to.
type bounds struct {
	size  int64 // bytes
	ratio int64 // times the stored bytes that were read for it
}

// bounded ends a stream at its bounds.
type bounded struct {
	io.Reader
	bounds
	stored func() int64 // taken from the store so far
	given  int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.given += int64(n)
	switch {
	case b.given > b.size:
		return 0, faultOf(errTooLarge, "it decompresses to more than %d bytes", b.size)
	case b.stored != nil && b.given > freeExpansion && b.given/b.ratio > b.stored():
		return 0, faultOf(errTooLarge, "%d stored bytes have become %d, more than %d times as many", b.stored(), b.given, b.ratio)
	}
	return n, err
}
