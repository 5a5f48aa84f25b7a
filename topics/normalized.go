package topics

import (
	"fmt"
	"math"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/auditstream/auditstream/pkg/event"
)

// The encoding of `normalized` is normalized.proto. It is written and read here
// by hand, field by field into and out of an event.Row: the generated code
// would allocate a message, its maps and every string for each record. Tests
// hold both against each other.

// AppendNormalized appends the record's value to dst. Fields at their default
// are left out. Entries of maps keep their order, so that the same row always
// gives the same bytes.
func AppendNormalized(dst []byte, row *event.Row) []byte {
	dst = appendText(dst, 1, row.WorkspaceID)
	dst = appendText(dst, 2, row.SourceID)
	dst = appendText(dst, 3, row.SourceType)
	dst = appendNumber(dst, 4, uint64(row.SourceTTL))
	dst = appendNumber(dst, 5, uint64(row.ReceivedAt))
	dst = appendText(dst, 6, row.ID)
	dst = appendNumber(dst, 7, uint64(row.EventTime))
	dst = appendText(dst, 8, row.EventName)
	dst = appendText(dst, 9, row.EventID)
	dst = appendEndpoint(dst, 10, &row.Src)
	dst = appendEndpoint(dst, 20, &row.Dst)
	dst = appendMap(dst, 30, row.Actor)
	dst = appendMap(dst, 31, row.Tags)
	dst = appendTexts(dst, 32, row.Resources)
	dst = appendText(dst, 33, row.ServiceName)
	if row.ReadOnly {
		dst = appendNumber(dst, 34, 1)
	}
	if len(row.RawLog) > 0 {
		dst = protowire.AppendBytes(appendTag(dst, 35, bytesTag), row.RawLog)
	}
	dst = appendNumber(dst, 36, uint64(row.Date))
	dst = appendText(dst, 37, row.Stream)
	dst = appendNumber(dst, 38, uint64(row.Time))
	dst = appendText(dst, 39, row.Kind)
	dst = appendText(dst, 40, row.APIVersion)
	dst = appendText(dst, 41, row.Level)
	dst = appendText(dst, 42, row.AuditID)
	dst = appendText(dst, 43, row.Stage)
	dst = appendText(dst, 44, row.RequestURI)
	dst = appendText(dst, 45, row.Verb)
	dst = appendText(dst, 46, row.UserUsername)
	dst = appendTexts(dst, 47, row.UserGroups)
	dst = appendTexts(dst, 48, row.SourceIPs)
	dst = appendText(dst, 49, row.UserAgent)
	dst = appendText(dst, 50, row.ObjectRefResource)
	dst = appendText(dst, 51, row.ObjectRefNamespace)
	dst = appendText(dst, 52, row.ObjectRefName)
	dst = appendText(dst, 53, row.ObjectRefAPIVersion)
	dst = appendText(dst, 54, row.ResponseStatusMetadata)
	dst = appendNumber(dst, 55, uint64(row.ResponseStatusCode)) //nolint:gosec // protobuf's int64
	dst = appendText(dst, 56, row.RequestReceivedTimestamp)
	dst = appendText(dst, 57, row.StageTimestamp)
	dst = appendText(dst, 58, row.AuthorizationDecision)
	dst = appendText(dst, 59, row.AuthorizationReason)
	dst = appendText(dst, 60, row.Kubernetes.PodName)
	dst = appendText(dst, 61, row.Kubernetes.NamespaceName)
	dst = appendText(dst, 62, row.Kubernetes.PodID)
	dst = appendText(dst, 63, row.Kubernetes.LabelsComponent)
	dst = appendText(dst, 64, row.Kubernetes.LabelsTier)
	dst = appendText(dst, 65, row.Kubernetes.Host)
	dst = appendText(dst, 66, row.Kubernetes.ContainerName)
	dst = appendText(dst, 67, row.Kubernetes.DockerID)
	dst = appendText(dst, 68, row.Kubernetes.ContainerHash)
	return appendText(dst, 69, row.Kubernetes.ContainerImage)
}

func appendEndpoint(dst []byte, first protowire.Number, e *event.Endpoint) []byte {
	dst = appendText(dst, first, e.IP)
	dst = appendText(dst, first+1, e.ASCountryCode)
	dst = appendNumber(dst, first+2, uint64(e.ASNumber))
	dst = appendText(dst, first+3, e.ASOrganization)
	dst = appendText(dst, first+4, e.City)
	dst = appendText(dst, first+5, e.ConnectionType)
	dst = appendText(dst, first+6, e.ISP)
	dst = appendDouble(dst, first+7, e.Latitude)
	dst = appendDouble(dst, first+8, e.Longitude)
	return appendText(dst, first+9, e.UserType)
}

// What follows writes tags by hand: protowire computes each anew, which is most
// of the work for texts as short as these. No field number needs a third byte.

const (
	varintTag  = byte(protowire.VarintType)
	fixed64Tag = byte(protowire.Fixed64Type)
	bytesTag   = byte(protowire.BytesType)
	more       = 0x80 // in a varint's byte: another follows
	oneByte    = 0x80 // the first length that takes two bytes
	oneByteTag = 16   // the first field whose tag does
)

func appendTag(dst []byte, field protowire.Number, wireType byte) []byte {
	if field < oneByteTag {
		return append(dst, byte(field<<3)|wireType)
	}
	return append(dst, byte(field<<3)|wireType|more, byte(field>>4))
}

func appendText(dst []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return dst
	}
	return appendPresent(dst, field, text)
}

func appendPresent(dst []byte, field protowire.Number, text string) []byte {
	size := len(text)
	switch {
	case size >= oneByte:
		dst = protowire.AppendVarint(appendTag(dst, field, bytesTag), uint64(size)) //nolint:gosec // never negative
	case field < oneByteTag:
		dst = append(dst, byte(field<<3)|bytesTag, byte(size))
	default:
		dst = append(dst, byte(field<<3)|bytesTag|more, byte(field>>4), byte(size))
	}
	return append(dst, text...)
}

func appendTexts(dst []byte, field protowire.Number, texts []string) []byte {
	for _, text := range texts {
		dst = appendPresent(dst, field, text)
	}
	return dst
}

func appendNumber(dst []byte, field protowire.Number, number uint64) []byte {
	if number == 0 {
		return dst
	}
	return protowire.AppendVarint(appendTag(dst, field, varintTag), number)
}

func appendDouble(dst []byte, field protowire.Number, number float64) []byte {
	bits := math.Float64bits(number)
	if bits == 0 {
		return dst
	}
	return protowire.AppendFixed64(appendTag(dst, field, fixed64Tag), bits)
}

// appendMap writes each entry as protobuf's map entry: key 1, value 2, both
// always there.
func appendMap(dst []byte, field protowire.Number, entries event.Map) []byte {
	for i := range entries {
		entry := &entries[i]
		size := 2 + protowire.SizeBytes(len(entry.Key)) + protowire.SizeBytes(len(entry.Value))
		dst = protowire.AppendVarint(appendTag(dst, field, bytesTag), uint64(size)) //nolint:gosec // never negative
		dst = appendPresent(dst, 1, entry.Key)
		dst = appendPresent(dst, 2, entry.Value)
	}
	return dst
}

// DecodeNormalized reads a record's value into row, which it resets first. The
// row's strings and RawLog point into data: they are valid as long as data is
// neither changed nor reused. Unknown fields are passed over. The error wraps
// ErrMalformed.
func DecodeNormalized(data []byte, row *event.Row) error {
	row.Reset()
	for offset := 0; offset < len(data); {
		field, wireType, n := protowire.ConsumeTag(data[offset:])
		if n < 0 {
			return malformedEvent(offset, n)
		}
		offset += n
		switch wireType {
		case protowire.BytesType:
			value, n := protowire.ConsumeBytes(data[offset:])
			if n < 0 {
				return malformedEvent(offset, n)
			}
			offset += n
			if err := setBytes(row, field, value); err != nil {
				return err
			}
		case protowire.VarintType:
			value, n := protowire.ConsumeVarint(data[offset:])
			if n < 0 {
				return malformedEvent(offset, n)
			}
			offset += n
			setNumber(row, field, value)
		case protowire.Fixed64Type:
			value, n := protowire.ConsumeFixed64(data[offset:])
			if n < 0 {
				return malformedEvent(offset, n)
			}
			offset += n
			setDouble(row, field, math.Float64frombits(value))
		default:
			n := protowire.ConsumeFieldValue(field, wireType, data[offset:])
			if n < 0 {
				return malformedEvent(offset, n)
			}
			offset += n
		}
	}
	if row.ID == "" {
		return fmt.Errorf("%w: event without id", ErrMalformed)
	}
	return nil
}

func malformedEvent(offset, code int) error {
	return fmt.Errorf("%w: event at byte %d: %w", ErrMalformed, offset, protowire.ParseError(code))
}

// viewString is a string over b's bytes. The caller of DecodeNormalized
// promises not to change them.
func viewString(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}
