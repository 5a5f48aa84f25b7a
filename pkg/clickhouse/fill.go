package clickhouse

import (
	"encoding/binary"
	"fmt"
	"io"
	"unsafe"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"

	"github.com/auditstream/auditstream/pkg/event"
)

// chunkRows are gathered per column before they go to the driver: few enough
// that the gathered strings stay in the processor's cache, enough that a call
// into the driver is spread over many rows.
const chunkRows = 256

// filler turns rows into the driver's columns without reflection and without
// an allocation per row. Its buffers live from batch to batch.
//
// Strings and numbers go in as slices of a chunk, which the driver copies.
// Maps and arrays would take reflection and boxing for every entry that way,
// so they are written down in the wire's form and handed over with the
// column's own Decode, once at the end.
type filler struct {
	columns []column.Interface
	rows    int // in the chunk
	total   int

	texts    [len(columns)][]string
	uint32s  [len(columns)][]uint32
	float64s [len(columns)][]float64
	times    [len(columns)][]int64
	int64s   []int64
	bools    []bool
	kinds    map[string]any // boxed values of the LowCardinality column

	nested  map[int]*nested
	segment segments
	reader  *proto.Reader
}

// nested is a map or an array column in the wire's form.
type nested struct {
	offsets, keys, values []byte
	entries               uint64
}

// The places of the columns that are not strings.
const (
	columnSourceType   = 2
	columnSourceTTL    = 3
	columnReceivedAt   = 4
	columnEventTime    = 6
	columnSrc          = 9
	columnDst          = 19
	columnActor        = 29
	columnTags         = 30
	columnResources    = 31
	columnReadOnly     = 33
	columnRawLog       = 34
	columnDate         = 35
	columnTime         = 37
	columnUserGroups   = 46
	columnSourceIPs    = 47
	columnResponseCode = 54
)

func newFiller() *filler {
	f := &filler{
		kinds: make(map[string]any),
		nested: map[int]*nested{
			columnActor: {}, columnTags: {}, columnResources: {}, columnUserGroups: {}, columnSourceIPs: {},
		},
	}
	f.reader = proto.NewReader(&f.segment)
	return f
}

// begin takes the columns of a new block, whose types must be the table's.
func (f *filler) begin(block []column.Interface) error {
	if err := sameColumns(block, columns[:]); err != nil {
		return err
	}
	f.columns, f.rows, f.total = block, 0, 0
	for _, n := range f.nested {
		n.offsets, n.keys, n.values, n.entries = n.offsets[:0], n.keys[:0], n.values[:0], 0
	}
	return nil
}

func sameColumns(block []column.Interface, want []Column) error {
	if len(block) != len(want) {
		return fmt.Errorf("the server's block has %d columns, want %d", len(block), len(want))
	}
	for i, want := range want {
		if block[i].Name() != want.Name || string(block[i].Type()) != want.Type {
			return &typeError{want: want, have: string(block[i].Type())}
		}
	}
	return nil
}

// typeError is a column whose type has changed since the check at the start.
type typeError struct {
	want Column
	have string
}

func (e *typeError) Error() string {
	return fmt.Sprintf("column %s is %s, want %s", e.want.Name, e.have, e.want.Type)
}

// add copies the row; its strings may change once the chunk is flushed, which
// is not before the caller's next call to add or end.
func (f *filler) add(row *event.Row) error {
	f.text(0, row.WorkspaceID)
	f.text(1, row.SourceID)
	if err := f.kind(row.SourceType); err != nil {
		return err
	}
	f.uint32s[columnSourceTTL] = append(f.uint32s[columnSourceTTL], row.SourceTTL)
	f.time(columnReceivedAt, row.ReceivedAt)
	f.text(5, row.ID)
	f.time(columnEventTime, row.EventTime)
	f.text(7, row.EventName)
	f.text(8, row.EventID)
	f.endpoint(columnSrc, &row.Src)
	f.endpoint(columnDst, &row.Dst)
	f.nested[columnActor].addMap(row.Actor)
	f.nested[columnTags].addMap(row.Tags)
	f.nested[columnResources].addTexts(row.Resources)
	f.text(32, row.ServiceName)
	f.bools = append(f.bools, row.ReadOnly)
	f.text(columnRawLog, unsafe.String(unsafe.SliceData(row.RawLog), len(row.RawLog)))
	f.time(columnDate, row.Date)
	f.text(36, row.Stream)
	f.time(columnTime, row.Time)
	f.text(38, row.Kind)
	f.text(39, row.APIVersion)
	f.text(40, row.Level)
	f.text(41, row.AuditID)
	f.text(42, row.Stage)
	f.text(43, row.RequestURI)
	f.text(44, row.Verb)
	f.text(45, row.UserUsername)
	f.nested[columnUserGroups].addTexts(row.UserGroups)
	f.nested[columnSourceIPs].addTexts(row.SourceIPs)
	f.text(48, row.UserAgent)
	f.text(49, row.ObjectRefResource)
	f.text(50, row.ObjectRefNamespace)
	f.text(51, row.ObjectRefName)
	f.text(52, row.ObjectRefAPIVersion)
	f.text(53, row.ResponseStatusMetadata)
	f.int64s = append(f.int64s, row.ResponseStatusCode)
	f.text(55, row.RequestReceivedTimestamp)
	f.text(56, row.StageTimestamp)
	f.text(57, row.AuthorizationDecision)
	f.text(58, row.AuthorizationReason)
	f.text(59, row.Kubernetes.PodName)
	f.text(60, row.Kubernetes.NamespaceName)
	f.text(61, row.Kubernetes.PodID)
	f.text(62, row.Kubernetes.LabelsComponent)
	f.text(63, row.Kubernetes.LabelsTier)
	f.text(64, row.Kubernetes.Host)
	f.text(65, row.Kubernetes.ContainerName)
	f.text(66, row.Kubernetes.DockerID)
	f.text(67, row.Kubernetes.ContainerHash)
	f.text(68, row.Kubernetes.ContainerImage)
	f.rows++
	f.total++
	if f.rows == chunkRows {
		return f.flush()
	}
	return nil
}

func (f *filler) text(i int, text string) { f.texts[i] = append(f.texts[i], text) }

func (f *filler) time(i int, seconds uint32) { f.times[i] = append(f.times[i], int64(seconds)) }

func (f *filler) endpoint(first int, e *event.Endpoint) {
	f.text(first, e.IP)
	f.text(first+1, e.ASCountryCode)
	f.uint32s[first+2] = append(f.uint32s[first+2], e.ASNumber)
	f.text(first+3, e.ASOrganization)
	f.text(first+4, e.City)
	f.text(first+5, e.ConnectionType)
	f.text(first+6, e.ISP)
	f.float64s[first+7] = append(f.float64s[first+7], e.Latitude)
	f.float64s[first+8] = append(f.float64s[first+8], e.Longitude)
	f.text(first+9, e.UserType)
}

// kind appends to the LowCardinality column, whose values are few: each is
// boxed once and for all.
func (f *filler) kind(text string) error {
	boxed, found := f.kinds[text]
	if !found {
		copied := string(append([]byte(nil), text...))
		boxed = copied
		f.kinds[copied] = boxed
	}
	return f.columns[columnSourceType].AppendRow(boxed)
}

func (n *nested) addMap(entries event.Map) {
	for i := range entries {
		n.keys = appendText(n.keys, entries[i].Key)
		n.values = appendText(n.values, entries[i].Value)
	}
	n.entries += uint64(len(entries))
	n.offsets = binary.LittleEndian.AppendUint64(n.offsets, n.entries)
}

func (n *nested) addTexts(texts []string) {
	for _, text := range texts {
		n.keys = appendText(n.keys, text)
	}
	n.entries += uint64(len(texts))
	n.offsets = binary.LittleEndian.AppendUint64(n.offsets, n.entries)
}

func appendText(dst []byte, text string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...)
}

// flush hands the chunk to the driver's columns and empties it.
func (f *filler) flush() error {
	for i := range columns {
		var err error
		switch {
		case len(f.texts[i]) > 0:
			_, err = f.columns[i].Append(f.texts[i])
			f.texts[i] = f.texts[i][:0]
		case len(f.uint32s[i]) > 0:
			_, err = f.columns[i].Append(f.uint32s[i])
			f.uint32s[i] = f.uint32s[i][:0]
		case len(f.times[i]) > 0:
			_, err = f.columns[i].Append(f.times[i])
			f.times[i] = f.times[i][:0]
		case len(f.float64s[i]) > 0:
			_, err = f.columns[i].Append(f.float64s[i])
			f.float64s[i] = f.float64s[i][:0]
		case i == columnResponseCode && len(f.int64s) > 0:
			_, err = f.columns[i].Append(f.int64s)
			f.int64s = f.int64s[:0]
		case i == columnReadOnly && len(f.bools) > 0:
			_, err = f.columns[i].Append(f.bools)
			f.bools = f.bools[:0]
		}
		if err != nil {
			return fmt.Errorf("column %s: %w", columns[i].Name, err)
		}
	}
	f.rows = 0
	return nil
}

// end flushes what is left; the block is then complete.
func (f *filler) end() error {
	if err := f.flush(); err != nil {
		return err
	}
	for i, n := range f.nested {
		f.segment = segments{n.offsets, n.keys, n.values}
		if err := f.columns[i].Decode(f.reader, f.total); err != nil {
			return fmt.Errorf("column %s: %w", columns[i].Name, err)
		}
	}
	f.columns = nil
	return nil
}

// segments is a reader of three byte slices, one after the other.
type segments [3][]byte

func (s *segments) Read(p []byte) (int, error) {
	for i := range s {
		if len(s[i]) > 0 {
			n := copy(p, s[i])
			s[i] = s[i][n:]
			return n, nil
		}
	}
	return 0, io.EOF
}
