package generate

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// random draws from a PCG. It does without floating point and without the
// methods of rand.Rand, so that a seed gives the same log on every machine and
// with every release of Go.
type random struct{ source *rand.PCG }

func newRandom(seed uint64) random {
	return random{rand.NewPCG(seed, 0x6175_6469_7473_7472)}
}

func (r *random) next() uint64 { return r.source.Uint64() }

// below is one of 0 … n-1.
func (r *random) below(n int) int {
	high, _ := bits.Mul64(r.source.Uint64(), uint64(n))
	return int(high) //nolint:gosec // less than n
}

// perMille is true in n of 1000 cases.
func (r *random) perMille(n int) bool { return r.below(1000) < n }

func (r *random) fill(dst []byte) {
	for len(dst) >= 8 {
		binary.LittleEndian.PutUint64(dst, r.next())
		dst = dst[8:]
	}
	for i := range dst {
		dst[i] = byte(r.below(256)) //nolint:gosec // a byte
	}
}

func pick[T any](r *random, list []T) T { return list[r.below(len(list))] }

// podLetters are what Kubernetes makes random names of.
const podLetters = "bcdfghjklmnpqrstvwxz2456789"

func (r *random) suffix(length int) string {
	text := make([]byte, length)
	for i := range text {
		text[i] = podLetters[r.below(len(podLetters))]
	}
	return string(text)
}

func (r *random) uuid() string {
	var id [16]byte
	r.fill(id[:])
	return string(appendUUID(nil, id))
}

const hexDigits = "0123456789abcdef"

// appendUUID appends id as a UUID of version 4.
func appendUUID(dst []byte, id [16]byte) []byte {
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	return dst
}

// appendHex appends length hexadecimal digits made of seed.
func appendHex(dst []byte, seed uint64, length int) []byte {
	for range length {
		dst = append(dst, hexDigits[seed>>60])
		seed = seed*6364136223846793005 + 1442695040888963407
	}
	return dst
}
