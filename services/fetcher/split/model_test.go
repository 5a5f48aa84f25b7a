package split

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/topics"
)

const modelLimit = 8 << 10 // of a line

// model is the log, as far as split can see it, and whatever a broker would do.
type model struct {
	t        *testing.T
	random   *rand.Rand
	store    objectStore
	fetcher  config.Fetcher
	names    topics.Names
	log      [2][]*kgo.Record // of `objects`, committed
	position [2]int64
	splitter *Splitter
	lines    map[string]string // in raw, committed
	letters  map[string]topics.DeadLetterRecord
	void     []sealed // of aborted transactions
	seed     maphash.Seed

	calm     bool  // the splitter meets no errors at its steps
	reported error // of the store, last

	commits, aborts, crashes, rebalances, outOfTime int
}

// sealed is a record and the bytes that it had when it was produced.
type sealed struct {
	record *kgo.Record
	sum    uint64
}

// newModel is a model with an empty log; what the fetcher may hold and try is to
// be set.
func newModel(t *testing.T, random *rand.Rand, store objectStore) *model {
	return &model{
		t: t, random: random, store: store, names: topics.NewNames(""), seed: maphash.MakeSeed(),
		lines: make(map[string]string), letters: make(map[string]topics.DeadLetterRecord),
		fetcher: config.Fetcher{
			DedupeHorizon: time.Hour, DedupeObjects: 1000, MaxObjectSize: 1 << 30, MaxExpansion: 1000,
			Backoff: time.Millisecond, StallTimeout: time.Second,
		},
	}
}

// storeAt is the store that the server answers for.
func storeAt(t *testing.T, server *httptest.Server) *objectstore.Store {
	t.Helper()
	store, err := objectstore.New(t.Context(), config.S3{
		Endpoint: server.URL, Alias: "a", Region: "r", PathStyle: true, AccessKeyID: "k", SecretAccessKey: "s",
	}, objectstore.Options{StallTimeout: 5 * time.Second})
	require.NoError(t, err)
	return store
}

func (m *model) Earliest(_ context.Context, positions map[int32]int64) (time.Time, error) {
	earliest := time.Now()
	for partition, position := range positions {
		if position < int64(len(m.log[partition])) {
			if at := m.log[partition][position].Timestamp; at.Before(earliest) {
				earliest = at
			}
		}
	}
	return earliest, nil
}

func (m *model) Until(_ context.Context, ends map[int32]int64, since time.Time, yield func(*kgo.Record)) error {
	for partition, end := range ends {
		for _, record := range m.log[partition][:end] {
			if !record.Timestamp.Before(since) {
				yield(record)
			}
		}
	}
	return nil
}

func (m *model) Report(_ string, err error) { m.reported = err }

func (m *model) add(record *kgo.Record, partition int32) {
	at := *record
	at.Partition, at.Offset, at.Timestamp = partition, int64(len(m.log[partition])), time.Now()
	m.log[partition] = append(m.log[partition], &at)
}

func (m *model) announce(object *topics.Object) {
	record, err := object.Record(m.names.Objects)
	require.NoError(m.t, err)
	m.add(record, int32(object.ID[0]&1))
}

// modelTransaction keeps what is produced.
type modelTransaction struct {
	m       *model
	records []*kgo.Record
	mu      sync.Mutex
	all     []sealed
	fails   int // after so many records
}

func (tx *modelTransaction) Records() []*kgo.Record { return tx.records }

func (tx *modelTransaction) Produce(record *kgo.Record) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.all = append(tx.all, sealed{record, tx.m.sum(record)})
}

func (tx *modelTransaction) Err() error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.fails > 0 && len(tx.all) > tx.fails {
		return errors.New("the broker refuses")
	}
	return nil
}

func (m *model) sum(record *kgo.Record) uint64 {
	var h maphash.Hash
	h.SetSeed(m.seed)
	_, _ = h.Write(record.Value)
	for _, header := range record.Headers {
		_, _ = h.WriteString(header.Key)
		_, _ = h.Write(header.Value)
	}
	return h.Sum64()
}

func (m *model) intact(records []sealed) {
	for _, s := range records {
		require.Equal(m.t, s.sum, m.sum(s.record), "a record that may still be sent was written over")
	}
}

func (m *model) poll() []*kgo.Record {
	var records []*kgo.Record
	limit := 1 + m.random.IntN(20)
	for _, partition := range m.random.Perm(2) {
		at := m.position[partition]
		for ; at < int64(len(m.log[partition])) && len(records) < limit; at++ {
			copied := *m.log[partition][at]
			records = append(records, &copied)
		}
	}
	return records
}

func (m *model) start() {
	if m.splitter != nil {
		m.splitter.Close()
	}
	metrics, err := NewMetrics(nil)
	require.NoError(m.t, err)
	m.splitter = New(Options{
		Fetcher: m.fetcher, LineLimit: modelLimit, Sources: []config.Source{{ID: "s", Bucket: "b"}}, Topics: m.names,
		Store: m.store, Log: m, Health: m, Logger: slog.New(slog.DiscardHandler), Metrics: metrics,
		AtStep: func(step Step) error {
			if !m.calm && step != StepBegun && m.random.IntN(40) == 0 {
				return kafka.ErrAbort
			}
			return nil
		},
	})
	require.NoError(m.t, m.splitter.Assigned(m.t.Context(), map[int32]int64{0: m.position[0], 1: m.position[1]}))
}

// turn is one transaction, and what its outcome does.
func (m *model) turn() {
	tx := &modelTransaction{m: m, records: m.poll()}
	if m.random.IntN(25) == 0 {
		tx.fails = 1 + m.random.IntN(200)
	}
	limit := 2 * time.Second
	if m.random.IntN(10) == 0 {
		limit = time.Duration(1+m.random.IntN(30)) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), limit)
	defer cancel()
	err := m.splitter.process(ctx, m.t.Context(), tx)
	if ctx.Err() != nil {
		m.outOfTime++
	}
	m.intact(tx.all)
	if err != nil || tx.Err() != nil || m.random.IntN(12) == 0 {
		m.aborts++
		m.void = append(m.void, tx.all...)
		m.splitter.Aborted()
		if m.random.IntN(4) == 0 {
			m.crashes++
			m.start()
		}
		return
	}
	m.committed(tx)
	switch m.random.IntN(40) {
	case 0:
		m.crashes++
		m.start()
	case 1:
		m.rebalances++
		partition := int32(m.random.IntN(2))
		m.splitter.Revoked([]int32{partition})
		require.NoError(m.t, m.splitter.Assigned(m.t.Context(), map[int32]int64{partition: m.position[partition]}))
	}
}

func (m *model) committed(tx *modelTransaction) {
	m.commits++
	for _, record := range tx.records {
		m.position[record.Partition] = record.Offset + 1
	}
	for _, s := range tx.all {
		m.commit(s.record)
	}
	m.splitter.Committed()
}

func (m *model) commit(record *kgo.Record) {
	switch record.Topic {
	case m.names.Objects:
		m.add(record, record.Partition)
	case m.names.Raw:
		line, err := topics.DecodeRawLine(record)
		require.NoError(m.t, err)
		id := identity.RowID(line.Object, line.Line, 0)
		_, twice := m.lines[id]
		require.False(m.t, twice, "line %s is there twice", id)
		m.lines[strings.Clone(id)] = string(line.Bytes)
	case m.names.DeadLetter:
		letter, err := topics.DecodeDeadLetter(record)
		require.NoError(m.t, err)
		letter.Bytes = bytes.Clone(letter.Bytes)
		id := string(letter.Reason) + " " + identity.RowID(letter.Object, letter.Line, 0)
		_, twice := m.letters[id]
		require.False(m.t, twice, "letter %s is there twice", id)
		m.letters[id] = letter
	}
}

func (m *model) done() bool {
	return m.position[0] == int64(len(m.log[0])) && m.position[1] == int64(len(m.log[1]))
}

// content makes an object up, and says which lines it has.
func content(t *testing.T, random *rand.Rand, number int) (lines []string, stored []byte) {
	count := random.IntN(40)
	if random.IntN(3) == 0 {
		count = random.IntN(4000)
	}
	values := random.IntN(3) == 0
	for i := range count {
		size := random.IntN(300)
		switch random.IntN(200) {
		case 0:
			size = modelLimit - 200 + random.IntN(400)
		case 1:
			size = random.IntN(40 * modelLimit)
		}
		line := fmt.Sprintf(`{"n":%d,"i":%d,"x":"`, number, i)
		text := make([]byte, max(size-len(line)-2, 0))
		for j := range text {
			text[j] = "abcdefghijklmnopqrstuvwxyz0123456789"[random.IntN(36)]
		}
		lines = append(lines, line+string(text)+`"}`)
	}
	var plain string
	switch {
	case values && random.IntN(2) == 0:
		plain = `{"Records": [` + strings.Join(lines, ",\n ") + `]}`
	case values:
		plain = "[\n" + strings.Join(lines, "\n,") + "\n]"
	default:
		plain = strings.Join(lines, []string{"\n", "\r\n"}[random.IntN(2)])
		if random.IntN(2) == 0 && count > 0 {
			plain += "\n"
		}
	}
	stored = []byte(plain)
	kinds := []string{"gzip", "zstd", "lz4", "snappy"}
	if kind := random.IntN(2 * len(kinds)); kind < len(kinds) {
		frame, half := frames[kinds[kind]], random.IntN(len(plain)+1)
		stored = append(frame(t, plain[:half]), frame(t, plain[half:])...)
	}
	return lines, stored
}

// Whatever happens to transactions, connections and the process: each line is
// there once, with the bytes it has in the object, and nothing that Kafka's
// client may still send is written over.
func TestWhateverHappens(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			whatever(t, seed)
		})
	}
}

// seeds are two, or those of AUDITSTREAM_TEST_SEEDS: first-last.
func seeds(t *testing.T) (all []uint64) {
	first, last := uint64(1), uint64(2)
	if given := os.Getenv("AUDITSTREAM_TEST_SEEDS"); given != "" {
		_, err := fmt.Sscanf(given, "%d-%d", &first, &last)
		require.NoError(t, err)
	}
	for seed := first; seed <= last; seed++ {
		all = append(all, seed)
	}
	return all
}

func whatever(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	bucket := &bucketServer{random: rand.New(rand.NewPCG(seed, 1)), objects: make(map[string][]byte)}
	server := httptest.NewServer(bucket)
	defer server.Close()
	defer server.CloseClientConnections()
	m := newModel(t, random, storeAt(t, server))
	m.fetcher.SliceSize, m.fetcher.Concurrency = config.Size(16<<10+random.IntN(256<<10)), 1+random.IntN(4)
	m.fetcher.OpenObjects, m.fetcher.Attempts = 1+random.IntN(4), 1000
	want, tooLong := make(map[string]string), make(map[string]bool)
	for i := range 15 {
		lines, stored := content(t, random, i)
		key := fmt.Sprintf("key %d", i)
		bucket.objects[key] = stored
		object := topics.Object{
			ID: identity.ObjectID("a", "b", key, etagOf(stored)), Source: "s", Endpoint: "a", Bucket: "b", Key: key, ETag: etagOf(stored),
			Size: int64(len(stored)), FromLine: 1, Cause: topics.CauseListed,
		}
		if len(stored) == 0 {
			continue
		}
		if random.IntN(3) == 0 {
			object.Size = 0 // not told
		}
		m.announce(&object)
		if random.IntN(3) == 0 {
			m.announce(&object)
		}
		for n, line := range lines {
			id := identity.RowID(object.ID, int64(n+1), 0)
			if len(line) > modelLimit {
				tooLong[id] = true
			} else {
				want[id] = line
			}
		}
	}
	m.start()
	defer func() { m.splitter.Close() }()
	for end := time.Now().Add(2 * time.Minute); !m.done(); m.turn() {
		require.True(t, time.Now().Before(end), "it does not come to an end")
	}
	m.intact(m.void)
	t.Logf("%d lines, %d letters, %d commits, %d aborts, %d crashes, %d rebalances, %d out of time",
		len(m.lines), len(m.letters), m.commits, m.aborts, m.crashes, m.rebalances, m.outOfTime)
	if m.commits > 50 { // the shortest runs meet none now and then
		require.Positive(t, m.aborts)
	}
	for id, line := range want {
		require.Equal(t, line, m.lines[id], id)
	}
	for id := range tooLong {
		require.Contains(t, m.letters, string(topics.ReasonLineTooLong)+" "+id)
	}
	require.Len(t, m.lines, len(want))
	require.Len(t, m.letters, len(tooLong))
}
