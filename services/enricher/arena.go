package enricher

// arena holds the bytes of a block's records in a few large pieces, which the
// next transaction uses again.
type arena struct {
	pieces [][]byte // all of length 0
	used   int      // pieces taken
	free   []byte   // the rest of the piece at hand, length 0
}

const (
	pieceSize = 256 << 10
	// keepPieces bounds what a block keeps for the next transaction.
	keepPieces = 8
)

func (a *arena) reset() {
	if len(a.pieces) > keepPieces {
		clear(a.pieces[keepPieces:])
		a.pieces = a.pieces[:keepPieces]
	}
	a.used, a.free = 0, nil
}

func (a *arena) room(size int) {
	if cap(a.free) >= size {
		return
	}
	if size > pieceSize/4 {
		a.free = make([]byte, 0, size) // its own piece, not kept
		return
	}
	if a.used == len(a.pieces) {
		a.pieces = append(a.pieces, make([]byte, 0, pieceSize))
	}
	a.free = a.pieces[a.used]
	a.used++
}

// append makes room for about size bytes and keeps what write appends.
func (a *arena) append(size int, write func(dst []byte) []byte) []byte {
	a.room(size)
	result := write(a.free)
	if len(result) <= cap(a.free) {
		a.free = a.free[len(result):len(result):cap(a.free)]
	}
	// Else append has moved the value to memory of its own.
	return result[:len(result):len(result)]
}

// copy keeps the bytes.
func (a *arena) copy(data []byte) []byte {
	a.room(len(data))
	result := append(a.free, data...)
	a.free = a.free[len(result):len(result):cap(a.free)]
	return result[:len(result):len(result)]
}

// copyText is copy for text.
func (a *arena) copyText(text string) []byte {
	a.room(len(text))
	result := append(a.free, text...)
	a.free = a.free[len(result):len(result):cap(a.free)]
	return result[:len(result):len(result)]
}
