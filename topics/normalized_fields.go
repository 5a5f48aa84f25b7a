package topics

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/auditstream/auditstream/pkg/event"
)

// setBytes sets the field of row that field numbers in normalized.proto.
func setBytes(row *event.Row, field protowire.Number, value []byte) error {
	switch field {
	case 30:
		return addEntry(&row.Actor, value)
	case 31:
		return addEntry(&row.Tags, value)
	case 32:
		row.Resources = append(row.Resources, viewString(value))
	case 35:
		row.RawLog = value
	case 47:
		row.UserGroups = append(row.UserGroups, viewString(value))
	case 48:
		row.SourceIPs = append(row.SourceIPs, viewString(value))
	default:
		if text := textField(row, field); text != nil {
			*text = viewString(value)
		}
	}
	return nil
}

func textField(row *event.Row, field protowire.Number) *string {
	switch field {
	case 1:
		return &row.WorkspaceID
	case 2:
		return &row.SourceID
	case 3:
		return &row.SourceType
	case 6:
		return &row.ID
	case 8:
		return &row.EventName
	case 9:
		return &row.EventID
	case 33:
		return &row.ServiceName
	case 37:
		return &row.Stream
	case 39:
		return &row.Kind
	case 40:
		return &row.APIVersion
	case 41:
		return &row.Level
	case 42:
		return &row.AuditID
	case 43:
		return &row.Stage
	case 44:
		return &row.RequestURI
	case 45:
		return &row.Verb
	case 46:
		return &row.UserUsername
	case 49:
		return &row.UserAgent
	case 50:
		return &row.ObjectRefResource
	case 51:
		return &row.ObjectRefNamespace
	case 52:
		return &row.ObjectRefName
	case 53:
		return &row.ObjectRefAPIVersion
	case 54:
		return &row.ResponseStatusMetadata
	case 56:
		return &row.RequestReceivedTimestamp
	case 57:
		return &row.StageTimestamp
	case 58:
		return &row.AuthorizationDecision
	case 59:
		return &row.AuthorizationReason
	case 60:
		return &row.Kubernetes.PodName
	case 61:
		return &row.Kubernetes.NamespaceName
	case 62:
		return &row.Kubernetes.PodID
	case 63:
		return &row.Kubernetes.LabelsComponent
	case 64:
		return &row.Kubernetes.LabelsTier
	case 65:
		return &row.Kubernetes.Host
	case 66:
		return &row.Kubernetes.ContainerName
	case 67:
		return &row.Kubernetes.DockerID
	case 68:
		return &row.Kubernetes.ContainerHash
	case 69:
		return &row.Kubernetes.ContainerImage
	}
	if endpoint, place := endpointField(row, field); endpoint != nil {
		switch place {
		case 0:
			return &endpoint.IP
		case 1:
			return &endpoint.ASCountryCode
		case 3:
			return &endpoint.ASOrganization
		case 4:
			return &endpoint.City
		case 5:
			return &endpoint.ConnectionType
		case 6:
			return &endpoint.ISP
		case 9:
			return &endpoint.UserType
		}
	}
	return nil
}

// endpointField finds the endpoint that field belongs to, and the field's place
// in it: src is 10 to 19, dst 20 to 29.
func endpointField(row *event.Row, field protowire.Number) (*event.Endpoint, protowire.Number) {
	switch {
	case field >= 10 && field < 20:
		return &row.Src, field - 10
	case field >= 20 && field < 30:
		return &row.Dst, field - 20
	}
	return nil, 0
}

func setNumber(row *event.Row, field protowire.Number, value uint64) {
	switch field {
	case 4:
		row.SourceTTL = uint32(value) //nolint:gosec // protobuf's uint32
	case 5:
		row.ReceivedAt = uint32(value) //nolint:gosec // protobuf's uint32
	case 7:
		row.EventTime = uint32(value) //nolint:gosec // protobuf's uint32
	case 12:
		row.Src.ASNumber = uint32(value) //nolint:gosec // protobuf's uint32
	case 22:
		row.Dst.ASNumber = uint32(value) //nolint:gosec // protobuf's uint32
	case 34:
		row.ReadOnly = value != 0
	case 36:
		row.Date = uint32(value) //nolint:gosec // protobuf's uint32
	case 38:
		row.Time = uint32(value) //nolint:gosec // protobuf's uint32
	case 55:
		row.ResponseStatusCode = int64(value) //nolint:gosec // protobuf's int64
	}
}

func setDouble(row *event.Row, field protowire.Number, value float64) {
	switch field {
	case 17:
		row.Src.Latitude = value
	case 18:
		row.Src.Longitude = value
	case 27:
		row.Dst.Latitude = value
	case 28:
		row.Dst.Longitude = value
	}
}

// addEntry reads one map entry. It doesn't look for the key among those that
// are there: AppendNormalized writes what an event.Map holds, and that holds a
// key once.
func addEntry(entries *event.Map, data []byte) error {
	var key, value string
	for offset := 0; offset < len(data); {
		field, wireType, n := protowire.ConsumeTag(data[offset:])
		if n < 0 {
			return fmt.Errorf("%w: map entry: %w", ErrMalformed, protowire.ParseError(n))
		}
		offset += n
		if wireType == protowire.BytesType && (field == 1 || field == 2) {
			text, n := protowire.ConsumeBytes(data[offset:])
			if n < 0 {
				return fmt.Errorf("%w: map entry: %w", ErrMalformed, protowire.ParseError(n))
			}
			offset += n
			if field == 1 {
				key = viewString(text)
			} else {
				value = viewString(text)
			}
			continue
		}
		if n = protowire.ConsumeFieldValue(field, wireType, data[offset:]); n < 0 {
			return fmt.Errorf("%w: map entry: %w", ErrMalformed, protowire.ParseError(n))
		}
		offset += n
	}
	*entries = append(*entries, event.Pair{Key: key, Value: value})
	return nil
}
