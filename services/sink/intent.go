package sink

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The metadata of a committed offset that is ours begins with metadataPrefix and
// a version. Anything else (nothing, or the member id that Kafka clients put
// there) says nothing.
const (
	metadataPrefix  = "auditstream/"
	metadataVersion = "1"
	// maxMetadata is a quarter of what Kafka accepts by default
	// (offset.metadata.max.bytes).
	maxMetadata = 1024
)

// errNewerMetadata was written by a newer version of this program. What it
// means is not known here, so its partition must wait for one that knows.
var errNewerMetadata = errors.New("the committed offset's metadata was written by a newer version of auditstream: run that version")

// metadata is what every committed offset of ours carries.
type metadata struct {
	// Topic is the topic's id, which changes when a topic of the same name is
	// made anew. Empty on brokers without ids.
	Topic  string  `json:"topic,omitempty"`
	Intent *intent `json:"intent,omitempty"` // nil: nothing is under way
	Run    *run    `json:"run,omitempty"`    // nil: the sink has no end
	// Hold is the hold on the table that the partition has acknowledged.
	Hold string `json:"hold,omitempty"`
}

// hash is the first 128 bits of a SHA-256, as hexadecimal digits in text.
type hash [16]byte

func (h hash) String() string { return hex.EncodeToString(h[:]) }

func (h hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

func (h *hash) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(h) {
		return fmt.Errorf("hash %q: want %d hexadecimal digits", text, 2*len(h))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// intent is what a worker is about to insert. It is committed as the metadata
// of the offset `from` before any row leaves, so that whoever owns the
// partition next knows which rows may be in the table.
type intent struct {
	from int64 // the committed offset that carries it

	To      int64  `json:"to"`      // one past the last record
	Records int    `json:"records"` // in [from, to)
	IDs     hash   `json:"ids"`     // of the records' row ids, in order
	Attempt int    `json:"attempt"` // from 1; each has a token of its own
	Target  string `json:"target"`  // shard and table
	At      int64  `json:"at"`      // when it was first recorded, seconds since 1970
}

func (m metadata) encode() (string, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("encode the offset's metadata: %w", err)
	}
	text := metadataPrefix + metadataVersion + " " + string(body)
	if len(text) >= maxMetadata {
		return "", fmt.Errorf("encode the offset's metadata: %d bytes, want less than %d: shorten the table's name", len(text), maxMetadata)
	}
	return text, nil
}

// decodeMetadata reads the metadata of the committed offset.
func decodeMetadata(offset int64, text string) (metadata, error) {
	var m metadata
	rest, ours := strings.CutPrefix(text, metadataPrefix)
	if !ours {
		return m, nil
	}
	version, body, _ := strings.Cut(rest, " ")
	if version != metadataVersion {
		return m, fmt.Errorf("%w (format %q)", errNewerMetadata, version)
	}
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		return m, fmt.Errorf("decode the offset's metadata %q: %w", text, err)
	}
	if decoder.More() {
		return m, fmt.Errorf("decode the offset's metadata %q: more follows", text)
	}
	if i := m.Intent; i != nil {
		if i.To <= offset || i.Records < 1 || int64(i.Records) > i.To-offset || i.Attempt < 1 || i.Target == "" {
			return m, fmt.Errorf("decode the offset's metadata %q: the intent's values contradict each other", text)
		}
		i.from = offset
	}
	return m, nil
}

// token names one attempt at one batch. Whoever attempts the same has the same
// token, so that the server keeps the first and drops the others.
//
// A further run over the same records is other work: without its id in the
// token the server would drop what it inserts.
func (i *intent) token(topic string, partition int32, r *run) string {
	var b bytes.Buffer
	if r != nil {
		b.WriteString(r.ID)
		b.WriteByte(0)
	}
	b.WriteString(topic)
	b.WriteByte(0)
	for _, number := range []int64{int64(partition), i.from, i.To, int64(i.Attempt)} {
		_ = binary.Write(&b, binary.BigEndian, number)
	}
	b.Write(i.IDs[:])
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:16])
}

// matches reports whether the batch read again is the one intended.
func (i *intent) matches(b *batch) error {
	switch {
	case b.to != i.To:
		return fmt.Errorf("it ends at %d", b.to)
	case len(b.records) != i.Records:
		return fmt.Errorf("it holds %d records, %d were intended", len(b.records), i.Records)
	case b.ids != i.IDs:
		return fmt.Errorf("its row ids have the hash %s, %s was intended", b.ids, i.IDs)
	}
	return nil
}

// Intent is what a committed offset says is being inserted, for those who look
// on: [From, To) are the offsets, Records how many records they hold.
type Intent struct {
	From, To int64
	Records  int
	Attempt  int
	Target   string    // shard and table
	At       time.Time // when it was first recorded
}

// ReadIntent reads the metadata of a committed offset of the sink's group. It is
// nil when nothing is under way, and when the metadata is not the sink's.
func ReadIntent(offset int64, text string) (*Intent, error) {
	m, err := decodeMetadata(offset, text)
	if err != nil || m.Intent == nil {
		return nil, err
	}
	i := m.Intent
	return &Intent{From: i.from, To: i.To, Records: i.Records, Attempt: i.Attempt, Target: i.Target, At: time.Unix(i.At, 0).UTC()}, nil
}
