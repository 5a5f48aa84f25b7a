package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/klauspost/compress/gzip"

	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/pkg/identity"
)

// What a line is, and so what must become of it.
type lineKind byte

const (
	eventLine   lineKind = iota // one row
	badLine                     // a dead letter
	blankLine                   // nothing
	listLine                    // eventsInList rows
	emptyList                   // nothing
	tooLongLine                 // a dead letter, of the fetcher
)

const (
	eventsInList = 3
	lineLimit    = 64 << 10
)

// object is the account of one object that was put into S3.
type object struct {
	id, key string
	corrupt bool // a dead letter for the whole of it
	kinds   []lineKind
}

// feeder puts objects into S3 and keeps account of every line.
type feeder struct {
	client *s3.Client
	bucket string
	alias  string
	rng    *rand.Rand
	rate   int // lines per second at most
	ahead  int // lines between S3 and ClickHouse at most
	rows   func() int64

	mu      sync.Mutex
	objects []*object

	lines, expectedRows, expectedLetters atomic.Int64
}

// run feeds until ctx is done. An object under way is finished.
func (f *feeder) run(ctx context.Context) error {
	started := time.Now()
	for number := 0; ctx.Err() == nil; number++ {
		if err := f.put(context.WithoutCancel(ctx), number); err != nil {
			return err
		}
		for ctx.Err() == nil && (f.expectedRows.Load()-f.rows() > int64(f.ahead) ||
			float64(f.lines.Load()) > float64(f.rate)*time.Since(started).Seconds()) {
			delay.For(ctx, 50*time.Millisecond)
		}
	}
	return nil
}

// sizeOf mixes objects of a few lines, of a few thousand, and of several slices.
func (f *feeder) sizeOf(number int) int {
	switch {
	case number%12 == 7:
		return 8_000 + f.rng.IntN(6_000)
	case number%5 == 3:
		return 1 + f.rng.IntN(60)
	}
	return 700 + f.rng.IntN(2_300)
}

func (f *feeder) kindOf() lineKind {
	switch n := f.rng.IntN(2_000); {
	case n < 8:
		return badLine
	case n < 12:
		return blankLine
	case n < 16:
		return listLine
	case n < 17:
		return emptyList
	case n == 17 && f.rng.IntN(10) == 0:
		return tooLongLine
	}
	return eventLine
}

func (f *feeder) put(ctx context.Context, number int) error {
	o := &object{}
	var body []byte
	source := string(rune('a' + number%sources))
	o.key = fmt.Sprintf("%s/%04d/%06d.ndjson", source, number/500, number)
	if number%97 == 41 {
		o.corrupt = true
		// gzip whose first block has the type that there is none of
		body = append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 0x07}, fmt.Sprint("garbage ", number)...)
	} else {
		var text bytes.Buffer
		for line := range f.sizeOf(number) {
			kind := f.kindOf()
			o.kinds = append(o.kinds, kind)
			f.writeLine(&text, kind, number, line+1)
		}
		body = text.Bytes()
		if number%2 == 0 {
			o.key += ".gz"
			var packed bytes.Buffer
			writer, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
			if err != nil {
				return err
			}
			if _, err := writer.Write(body); err != nil {
				return err
			}
			if err := writer.Close(); err != nil {
				return err
			}
			body = packed.Bytes()
		}
	}
	put, err := f.client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(f.bucket), Key: aws.String(o.key), Body: bytes.NewReader(body)})
	if err != nil {
		return fmt.Errorf("put %s: %w", o.key, err)
	}
	o.id = identity.ObjectID(f.alias, f.bucket, o.key, aws.ToString(put.ETag))
	f.account(o)
	return nil
}

func (f *feeder) account(o *object) {
	f.mu.Lock()
	f.objects = append(f.objects, o)
	f.mu.Unlock()
	rows, letters := 0, 0
	for _, kind := range o.kinds {
		rows += kind.rows()
		letters += kind.letters()
	}
	if o.corrupt {
		letters++
	}
	f.lines.Add(int64(len(o.kinds)))
	f.expectedRows.Add(int64(rows))
	f.expectedLetters.Add(int64(letters))
}

func (k lineKind) rows() int {
	switch k {
	case eventLine:
		return 1
	case listLine:
		return eventsInList
	}
	return 0
}

func (k lineKind) letters() int {
	if k == badLine || k == tooLongLine {
		return 1
	}
	return 0
}

var padding = strings.Repeat("the quick brown fox jumps over the lazy dog ", lineLimit/40)

func (f *feeder) writeLine(text *bytes.Buffer, kind lineKind, number, line int) {
	switch kind {
	case badLine:
		fmt.Fprintf(text, "not an event %d of %d\n", line, number)
	case blankLine:
		text.WriteByte('\n')
	case emptyList:
		text.WriteString(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[]}` + "\n")
	case listLine:
		text.WriteString(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[`)
		for event := range eventsInList {
			if event > 0 {
				text.WriteByte(',')
			}
			writeEvent(text, "", number, line)
		}
		text.WriteString("]}\n")
	case tooLongLine:
		writeEvent(text, padding, number, line)
		text.WriteByte('\n')
	default:
		pad := ""
		if f.rng.IntN(50) == 0 {
			pad = padding[:f.rng.IntN(8_000)]
		}
		writeEvent(text, pad, number, line)
		text.WriteByte('\n')
	}
}

func writeEvent(text *bytes.Buffer, pad string, number, line int) {
	fmt.Fprintf(text, `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"%d-%d","stage":"ResponseComplete",`+
		`"requestURI":"/api/v1/namespaces/web/pods/p-%d","verb":"get","user":{"username":"jane"},"sourceIPs":["203.0.113.%d"],`+
		`"objectRef":{"resource":"pods","namespace":"web","name":"p-%d","apiVersion":"v1"},"responseStatus":{"code":200},`+
		`"requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z","stageTimestamp":"2026-01-01T00:00:00.000001Z"`,
		number, line, line, line%250, line)
	if pad != "" {
		fmt.Fprintf(text, `,"annotations":{"chaos/padding":"%s"}`, pad)
	}
	text.WriteByte('}')
}
