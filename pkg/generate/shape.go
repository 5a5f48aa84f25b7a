package generate

import (
	"strconv"
	"time"
)

// appendShaped appends the event of a stage inside what the shipper puts around it.
func (g *Generator) appendShaped(dst []byte, due stageDue) []byte {
	shape := g.shape
	if shape == Mixed {
		shape = Shape(g.random.below(int(Mixed))) //nolint:gosec // 0 to 2
	}
	if shape == Bare {
		return g.appendEvent(dst, due.request, due.stage, due.at)
	}
	// Fluent Bit reads the line some milliseconds after it was written.
	read := due.at + 1200 + due.request.mix2(9000)
	dst = append(dst, `{"date":`...)
	dst = strconv.AppendInt(dst, read/1e6, 10)
	dst = append(dst, '.')
	for digit, rest := int64(1e5), read%1e6; digit > 0; digit /= 10 {
		dst = append(dst, '0'+byte(rest/digit%10)) //nolint:gosec // a digit
	}
	dst = append(dst, `,"stream":"stdout","time":"`...)
	dst = time.UnixMicro(due.at).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000000Z")
	dst = append(dst, '"', ',')
	if shape == Merged {
		opening := len(dst)
		dst = g.appendEvent(dst, due.request, due.stage, due.at)
		// The event's keys become the record's: its own braces go.
		copy(dst[opening:], dst[opening+1:])
		dst = dst[:len(dst)-2]
	} else {
		g.line = g.appendEvent(g.line[:0], due.request, due.stage, due.at)
		g.line = append(g.line, '\n')
		dst = append(dst, `"log":`...)
		dst = appendBytes(dst, g.line)
	}
	dst = append(dst, `,"kubernetes":`...)
	dst = append(dst, shippers[due.request.mix2(len(shippers))]...)
	return append(dst, '}')
}

// shippers are the API servers' pods as Fluent Bit's kubernetes filter describes them.
var shippers = []string{
	shipper("ip-10-0-0-4", "7f1fd3c5-6a0e-4b57-9d0a-6f5f8c9b1c11", "4e9d0b7c1fa2"),
	shipper("ip-10-0-0-5", "0b64f6a8-97b4-4a5b-8a8e-2d2f5a1f3e22", "b6a1c8d2e37f"),
	shipper("ip-10-0-0-6", "c9a2f7be-1c3d-4b8f-a3a5-91e4d7c60b33", "90ff3ad5c4e1"),
}

func shipper(host, uid, container string) string {
	host += ".eu-central-1.compute.internal"
	return `{"pod_name":"kube-apiserver-` + host + `","namespace_name":"kube-system","pod_id":"` + uid +
		`","labels":{"component":"kube-apiserver","tier":"control-plane"},"annotations":{"kubernetes.io/config.source":"file"},"host":"` + host +
		`","container_name":"kube-apiserver","docker_id":"` + container + `5d1b7c0e8f42a6931bd07e4c25fa8e630d9c47b1f86e2a53c7"` +
		`,"container_hash":"registry.k8s.io/kube-apiserver@sha256:5f1ce9b6d4c07a31e28d5b90fa7c6e13d84b2a59ec07f1634bd8a952e0c7f31d"` +
		`,"container_image":"registry.k8s.io/kube-apiserver:v1.33.4"}`
}

// appendBadLine appends what is found in buckets of audit logs beside events.
func (g *Generator) appendBadLine(dst []byte) ([]byte, Kind) {
	switch g.random.below(5) {
	case 0:
		return dst, Blank
	case 1: // the API server's own log, written to the same place
		at := g.Now()
		dst = at.AppendFormat(dst, "I0102 15:04:05.000000       1 ")
		dst = append(dst, `trace.go:236] Trace[`...)
		dst = strconv.AppendInt(dst, int64(g.random.below(2e9)), 10)
		return append(dst, `]: "Update" accept:application/json, */*,audit-id:`+g.random.uuid()+`,client:10.0.0.4,protocol:HTTP/2.0,resource:leases,verb:PUT (total time: 612ms):`...), Bad
	case 2: // another kind of event
		dst = append(dst, `{"kind":"Event","apiVersion":"v1","metadata":{"name":"`...)
		w := pick(&g.random, g.cluster.workloads)
		dst = append(dst, w.pods[0].name...)
		dst = append(dst, `.17f2","namespace":"`...)
		dst = append(dst, w.namespace...)
		return append(dst, `"},"reason":"BackOff","message":"Back-off restarting failed container","type":"Warning","count":7}`...), Bad
	default: // cut off by a full disk or a size limit
		from := len(dst)
		dst = g.appendEventLine(dst)
		whole := len(dst) - from
		return dst[:from+whole/4+g.random.below(whole/2)], Bad
	}
}
