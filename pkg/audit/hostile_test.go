package audit

import (
	"flag"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/event"
)

// At 16 MiB, the largest line there may be by default, this takes a quarter of a
// minute; what grows by the square shows at 2 MiB as well.
var hostileMiB = flag.Int("hostile-mib", 2, "size of the hostile lines, in MiB")

// filled repeats piece until the line has the size of the largest allowed.
func filled(before, piece, separator, after string) string {
	hostileSize := *hostileMiB << 20
	count := (hostileSize - len(before) - len(after)) / (len(piece) + len(separator))
	return before + strings.Repeat(piece+separator, count-1) + piece + after
}

// numbered is filled with pieces that differ.
func numbered(before, piece, after string, size int) string {
	var line strings.Builder
	line.WriteString(before)
	for i := 0; line.Len() < size-len(after)-2*len(piece)-20; i++ {
		if i > 0 {
			line.WriteByte(',')
		}
		line.WriteString(strings.Replace(piece, "#", strconv.Itoa(i), 1))
	}
	line.WriteString(after)
	return line.String()
}

func inString(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text)
}

// hostileLines are the largest lines, each made to take long or to give much.
func hostileLines() map[string]string {
	hostileSize := *hostileMiB << 20
	const tiny = `{"auditID":"1","verb":"x"}`
	labels := numbered(`{"kubernetes":{"labels":{`, `"l#":""`, `}},"kind":"EventList","items":[`, hostileSize/2)
	nested := `[` + strings.Repeat(`{"items":[`, 3)
	lines := map[string]string{
		"labels and items":       filled(labels, tiny, ",", "]}"),
		"long time and items":    filled(`{"time":"`+strings.Repeat("1", hostileSize/2)+`","kind":"EventList","items":[`, tiny, ",", "]}"),
		"long decimals":          filled(`{"time":"2020-01-01T00:00:00.`+strings.Repeat("1", hostileSize/2)+`","kind":"EventList","items":[`, tiny, ",", "]}"),
		"long cluster and items": filled(`{"logGroup":"/aws/eks/`+strings.Repeat("c", hostileSize/2)+`/cluster","kind":"EventList","items":[`, tiny, ",", "]}"),
		"items":                  filled(`{"kind":"EventList","items":[`, tiny, ",", "]}"),
		"items of no kind":       filled(`{"items":[`, `{}`, ",", "]}"),
		"items of lists":         filled(`{"items":[`, `{"items":[{"items":[{"items":[{}]}]}]}`, ",", "]}"),
		"lists of items":         filled(nested, `{}`, ",", strings.Repeat(`]}`, 3)+"]"),
		"records of records":     filled(`{"records":[{"records":[{"records":[`, `{}`, ",", "]}]}]}"),
		"records":                filled(`{"records":[`, `1`, ",", "]}"),
		"log events":             filled(`{"logGroup":"g","logEvents":[`, `{"message":"I"}`, ",", "]}"),
		"otlp":                   filled(`{"resourceLogs":[{"scopeLogs":[{"logRecords":[`, `{}`, ",", "]}]}]}"),
		"otlp of empties":        filled(`{"resourceLogs":[`, `{"scopeLogs":[{"logRecords":[]}]}`, ",", "]}"),
		"array":                  filled(`[`, `1`, ",", "]"),
		"array of arrays":        filled(`[`, `[]`, ",", "]"),
		"back to back":           filled("", `{}`, "", ""),
		"back to back arrays":    filled("", `[]`, "", ""),
		"back to back lists":     filled("", `[0]`, "", ""),
		"open arrays":            filled("", `[`, "", ""),
		"open objects":           filled("", `{"":`, "", ""),
		"open strings":           filled(`{"log":"`, `{\"log\":`, "", ""),
		"backslashes":            filled(`{"log":"`, `\\`, "", `"}`),
		"quotes":                 filled(`{"log":"`, `\"`, "", `"}`),
		"escapes":                filled(`{"verb":"`, `\u0041`, "", `"}`),
		"keys":                   numbered("{", `"k#":1`, "}", hostileSize),
		"one key":                filled("{", `"log":"x"`, ",", "}"),
		"one key, objects":       filled("{", `"user":{"extra":{"a":["b"]}}`, ",", "}"),
		"annotations":            numbered(`{"auditID":"1","verb":"x","annotations":{`, `"k#":"v"`, "}}", hostileSize),
		"escaped annotations":    numbered(`{"auditID":"1","verb":"x","annotations":{`, `"\u006b#":"v"`, "}}", hostileSize),
		"extra":                  numbered(`{"auditID":"1","verb":"x","user":{"extra":{`, `"k#":["v","w"]`, "}}}", hostileSize),
		"groups":                 filled(`{"auditID":"1","verb":"x","user":{"groups":[`, `""`, ",", "]}}"),
		"source addresses":       filled(`{"auditID":"1","verb":"x","sourceIPs":[`, `"10.0.0.1"`, ",", "]}"),
		"colons":                 filled(`{"auditID":"1","verb":"x","sourceIPs":["`, `:`, "", `"]}`),
		"query":                  filled(`{"auditID":"1","verb":"x","requestURI":"/api/v1/pods?`, `dryRun=&`, "", `"}`),
		"slashes":                filled(`{"auditID":"1","verb":"x","requestURI":"`, `/`, "", `"}`),
		"invalid UTF-8":          filled(`{"auditID":"1","verb":"`, "\xff", "", `"}`),
		"long number":            filled(`{"auditID":"1","verb":"x","time":`, `1`, "", `}`),
		"long code":              filled(`{"auditID":"1","verb":"x","responseStatus":{"code":`, `1`, "", `}}`),
		"white space":            filled(`{"auditID":"1","verb":"x","responseStatus":{"metadata":[`, `1 `, ",", `]}}`),
		"tabs":                   filled("2026-01-01T00:00:00Z\t", "\t", "", ""),
		"braces":                 filled("", "}", "", ""),
	}
	deep := `{"log":"` + strings.Repeat("{}", 1<<10) + `"}`
	for len(deep) < hostileSize/2 {
		deep = `{"message":"` + inString(deep) + `"}`
	}
	lines["wrapped"] = deep
	all := `{}`
	for range 5 {
		member := inString(all)
		all = "{"
		for i, name := range embeddedNames {
			if i > 0 {
				all += ","
			}
			all += `"` + name + `":"` + member + `"`
		}
		all += "}"
	}
	lines["every key"] = all
	return lines
}

// TestHostileLines bounds what the worst of lines cost: in time, in what the
// rows carry, in dead letters. Where time grows by the square of the line these
// take minutes.
func TestHostileLines(t *testing.T) {
	normalizer, source := NewNormalizer(nil), &Source{ID: "s"}
	for name, text := range hostileLines() {
		carried, start := 0, time.Now()
		result := normalizer.Normalize(source, Line{Bytes: []byte(text), ObjectID: testObject, Number: 1}, func(row *event.Row) {
			carried += len(row.Kubernetes.PodName)
			for _, pair := range row.Tags {
				carried += len(pair.Key) + len(pair.Value)
			}
		})
		taken := time.Since(start)
		t.Logf("%-24s %6d ms: %d rows, %d rejections, %d MiB of tags", name, taken.Milliseconds(), result.Rows, len(result.Rejections), carried>>20)
		require.Less(t, taken, 15*time.Second, name)
		require.Less(t, carried, maxRepeated+3*len(text), name)
		require.LessOrEqual(t, len(result.Rejections), maxRejections+1, name)
		require.NotZero(t, result.Rows+len(result.Rejections)+len(result.Skips), name)
		if len(text) <= largeLine {
			continue
		}
		// Such lines must leave nothing behind that costs the next line.
		require.Zero(t, cap(normalizer.arena.buf), name)
		for _, level := range normalizer.levels {
			require.Zero(t, cap(level.e.sourceIPs)+cap(level.e.annotations.list)+len(level.s.data), name)
		}
	}
}
