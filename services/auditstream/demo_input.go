package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/generate"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/services/fetcher/split"
)

// Of the generated lines so many are bad, and so many objects.
const (
	demoBadShare = 0.002
	demoCorrupt  = 1
)

// bucket is where the demo's objects go.
type bucket struct {
	client *s3.Client
	http   *http.Client
	alias  string
	name   string
}

// put writes one object and returns its id.
func (b *bucket) put(ctx context.Context, key string, body io.ReadSeeker) (string, error) {
	written, err := b.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.name, Key: &key, Body: body},
		func(options *s3.Options) { options.HTTPClient = b.http })
	if err != nil {
		return "", fmt.Errorf("put s3://%s/%s: %w", b.name, key, err)
	}
	if written.ETag == nil {
		return "", fmt.Errorf("put s3://%s/%s: the store gave no ETag", b.name, key)
	}
	return identity.ObjectID(b.alias, b.name, key, *written.ETag), nil
}

// writeGenerated puts generated objects into the bucket. The log ends about now,
// so that a query for the last hours finds something.
func (d *demo) writeGenerated(ctx context.Context) error {
	const every = 200 * time.Millisecond
	start := time.Now().Add(-time.Duration(d.events) * every).Truncate(time.Hour)
	reader := d.reader()
	totals, err := generate.WriteObjects(ctx, generate.ObjectsOptions{
		Options: generate.Options{Seed: d.seed, Start: start, Every: every, BadShare: demoBadShare},
		Events:  d.events, Objects: d.objectCount, Corrupt: demoCorrupt, Prefix: "generated/",
	}, func(ctx context.Context, object generate.Object) error {
		id, err := d.bucket.put(ctx, object.Key, bytes.NewReader(object.Body))
		if err != nil {
			return err
		}
		if object.Corrupt {
			broken := &expectedObject{key: object.Key}
			if err := reader.read(bytes.NewReader(object.Body), broken); err != nil {
				return err
			}
			broken.unreadable = true
			d.expect(id, broken)
			return nil
		}
		expectedLines := make([]outcome, len(object.Lines))
		for i, kind := range object.Lines {
			expectedLines[i] = map[generate.Kind]outcome{
				generate.Event: outcomeRow, generate.Bad: outcomeDead, generate.Blank: outcomeSkip,
			}[kind]
		}
		d.expect(id, &expectedObject{key: object.Key, lines: expectedLines})
		return nil
	})
	if err != nil {
		return err
	}
	d.say("  written    %d objects, %s lines (%s compressed, %s as text); %d of the lines and %d of the objects are bad on purpose\n",
		totals.Objects+totals.Corrupt, digits.Group(totals.Events+totals.Bad+totals.Blank), size(totals.Compressed), size(totals.Bytes), totals.Bad, totals.Corrupt)
	return nil
}

// writeData puts the user's own files into the bucket. A file that can't be
// read is told and left out.
func (d *demo) writeData(ctx context.Context) error {
	reader := d.reader()
	var files, bytesRead int64
	err := filepath.WalkDir(d.data, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && path == d.data:
			return err
		case err != nil:
			d.say("  left out   %s: %s\n", path, err)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case strings.HasPrefix(entry.Name(), ".") && path != d.data:
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := os.Stat(path)
		if err != nil {
			d.say("  left out   %s: %s\n", path, err)
			return nil //nolint:nilerr // told; the others go on
		}
		if !info.Mode().IsRegular() {
			return nil // a folder is walked, a socket holds no logs
		}
		object, count, err := d.putFile(ctx, reader, path)
		var unread *fs.PathError
		if errors.As(err, &unread) {
			d.say("  left out   %s: %s\n", path, unread.Err)
			return nil
		}
		if err != nil {
			return err
		}
		if object.unreadable {
			d.say("  broken     %s: does not decompress to its end; see what the pipeline says\n", path)
		}
		files++
		bytesRead += count
		return nil
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", d.data, err)
	}
	if files == 0 {
		return fmt.Errorf("read %s: no files in it", d.data)
	}
	d.say("  written    %d objects, %s lines (%s)\n", files, digits.Group(d.expected.lines()), size(bytesRead))
	return nil
}

// putFile uploads a file and says what must become of it.
func (d *demo) putFile(ctx context.Context, reader *dataReader, path string) (_ *expectedObject, _ int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	relative, err := filepath.Rel(d.data, path)
	if err != nil {
		return nil, 0, err
	}
	object := &expectedObject{key: "data/" + filepath.ToSlash(relative)}
	id, err := d.bucket.put(ctx, object.key, file)
	if err != nil {
		return nil, 0, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, 0, err
	}
	if err := reader.read(file, object); err != nil {
		return nil, 0, err
	}
	d.expect(id, object)
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	return object, info.Size(), nil
}

func (d *demo) expect(id string, object *expectedObject) {
	d.expected.add(id, object)
	d.putCount.Add(1)
	d.putLines.Add(int64(len(object.lines)))
}

// dataReader finds out, from a file's own lines, what must become of each.
type dataReader struct {
	normalizer *audit.Normalizer
	limits     split.Limits
	events     []int
}

func (d *demo) reader() *dataReader {
	return &dataReader{normalizer: audit.NewNormalizer(nil), limits: readLimits(&d.cfg)}
}

func (r *dataReader) read(file io.Reader, object *expectedObject) error {
	lines := split.NewReader(file, r.limits)
	defer lines.Close()
	for {
		line, err := lines.Next()
		var unread *fs.PathError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &unread):
			return err
		case err != nil:
			object.unreadable = true
			return nil
		case line.TooLong:
			object.lines = append(object.lines, outcomeDead)
		default:
			r.judge(object, line)
		}
	}
}

// judge asks the normalizer what the line is.
func (r *dataReader) judge(object *expectedObject, line split.Line) {
	r.events = r.events[:0]
	result := r.normalizer.Normalize(&audit.Source{}, audit.Line{Bytes: line.Text, ObjectID: strings.Repeat("0", identity.ObjectIDLength), Number: line.Number},
		func(row *event.Row) {
			// The normalizer's own ids always parse.
			_, _, position, _ := identity.ParseRowID(row.ID)
			r.events = append(r.events, position)
		})
	switch {
	case result.Rows == 1 && len(result.Rejections) == 0 && r.events[0] == 0:
		object.lines = append(object.lines, outcomeRow)
	case result.Rows == 0 && len(result.Rejections) == 1 && result.Rejections[0].Event == 0:
		object.lines = append(object.lines, outcomeDead)
	case result.Rows == 0 && len(result.Rejections) == 0:
		object.lines = append(object.lines, outcomeSkip)
	default:
		object.lines = append(object.lines, outcomeSeveral)
		var events []outcome
		set := func(position int, o outcome) {
			for len(events) <= position {
				events = append(events, outcomeSkip)
			}
			events[position] = o
		}
		for _, position := range r.events {
			set(position, outcomeRow)
		}
		for i := range result.Rejections {
			set(result.Rejections[i].Event, outcomeDead)
		}
		if object.several == nil {
			object.several = make(map[int64][]outcome)
		}
		object.several[line.Number] = events
	}
}
