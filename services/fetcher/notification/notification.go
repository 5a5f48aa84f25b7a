// Package notification reads what a queue says of a bucket's objects: S3 event
// notifications as S3 sends them and as SNS, EventBridge, MinIO and Lambda wrap
// or spell them. It is pure; the fetcher's intake announces what it finds.
package notification

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ErrNone marks a body that is no notification of S3, or one of its parts.
var ErrNone = errors.New("not an S3 notification")

// Event is what happened to one object.
type Event struct {
	Name    string // ObjectCreated:Put and such, without "s3:"
	Bucket  string
	Key     string // decoded
	ETag    string // without quotes; empty when it is not told
	Version string // empty in a bucket without versions
	Region  string
	Size    int64     // -1 when it is not told
	Time    time.Time // zero when it is not told
}

// Creates tells whether there is a new object after the event.
func (e *Event) Creates() bool { return strings.HasPrefix(e.Name, "ObjectCreated:") }

// Message is all that one body tells.
type Message struct {
	Events []Event
	// Tests counts those messages that S3 sends when notifications are set up.
	Tests int
}

// mostWraps bounds how many envelopes are opened: SNS in EventBridge in SNS is
// more than anyone has.
const mostWraps = 4

// Parse reads a body. With an error, which wraps ErrNone, the message holds
// what could be read all the same.
func Parse(body []byte) (Message, error) {
	var m Message
	err := m.read(body, mostWraps)
	return m, err
}

// envelope has the top-level keys of every form, by their exact spelling. What
// isn't looked at may hold anything.
type envelope struct {
	// S3, MinIO, Lambda
	Records jsontext.Value `json:"Records"`
	// s3:TestEvent
	Event jsontext.Value `json:"Event"`
	// SNS
	Type    jsontext.Value `json:"Type"`
	Message jsontext.Value `json:"Message"`
	// EventBridge
	DetailType jsontext.Value `json:"detail-type"`
	Source     jsontext.Value `json:"source"`
	Region     jsontext.Value `json:"region"`
	Time       jsontext.Value `json:"time"`
	Detail     jsontext.Value `json:"detail"`
}

// lenient takes what S3 never sends, rather than lose an object over it.
var lenient = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

func decode(text []byte, into any) error {
	if err := json.Unmarshal(text, into, lenient); err != nil {
		return fmt.Errorf("%w: %w", ErrNone, err)
	}
	return nil
}

func (m *Message) read(body []byte, wraps int) error {
	if wraps == 0 {
		return fmt.Errorf("%w: wrapped too often", ErrNone)
	}
	var e envelope
	if err := decode(body, &e); err != nil {
		return err
	}
	kind, message := str(e.Type), str(e.Message)
	switch {
	case e.Records.Kind() == '[':
		var records []jsontext.Value
		if err := decode(e.Records, &records); err != nil {
			return err
		}
		return m.records(records, wraps)
	case str(e.Event) == "s3:TestEvent":
		m.Tests++
		return nil
	case kind == "Notification" && message != "":
		return m.read([]byte(message), wraps-1)
	case strings.HasSuffix(kind, "Confirmation"):
		return fmt.Errorf("%w: an SNS %s, whose address is for people to open", ErrNone, kind)
	case e.Detail.Kind() == '{':
		return m.eventBridge(&e)
	}
	return fmt.Errorf("%w: neither Records nor an envelope of SNS or EventBridge", ErrNone)
}

// record of S3; Body and SNS are those of messages as Lambda hands them on.
type record struct {
	EventSource jsontext.Value `json:"eventSource"`
	EventName   jsontext.Value `json:"eventName"`
	EventTime   jsontext.Value `json:"eventTime"`
	Region      jsontext.Value `json:"awsRegion"`
	S3          *struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key     string         `json:"key"`
			Size    jsontext.Value `json:"size"`
			ETag    string         `json:"eTag"`
			Version jsontext.Value `json:"versionId"`
		} `json:"object"`
	} `json:"s3"`

	Body jsontext.Value `json:"body"`
	SNS  struct {
		Message jsontext.Value `json:"Message"`
	} `json:"Sns"`
}

// records reads all of them, whatever is wrong with one.
func (m *Message) records(raw []jsontext.Value, wraps int) error {
	var problems []error
	untold := 0
	for i, text := range raw {
		err := m.record(text, wraps)
		switch {
		case err == nil:
		case len(problems) < mostProblems:
			problems = append(problems, fmt.Errorf("record %d: %w", i, err))
		default:
			untold++
		}
	}
	if untold > 0 {
		problems = append(problems, fmt.Errorf("%w: %d more records", ErrNone, untold))
	}
	return errors.Join(problems...)
}

// mostProblems of one body are told; every record is read all the same.
const mostProblems = 5

func (m *Message) record(text jsontext.Value, wraps int) error {
	var r record
	if err := decode(text, &r); err != nil {
		return err
	}
	switch {
	case r.S3 != nil && strings.HasSuffix(str(r.EventSource), ":s3"):
	case r.Body.Kind() == '"':
		return m.read([]byte(str(r.Body)), wraps-1)
	case r.SNS.Message.Kind() == '"':
		return m.read([]byte(str(r.SNS.Message)), wraps-1)
	default:
		return fmt.Errorf("%w: a record of %q", ErrNone, str(r.EventSource))
	}
	// A form-encoded key: '+' is a blank, and MinIO and others encode '/' too.
	key, err := url.QueryUnescape(r.S3.Object.Key)
	if err != nil {
		return fmt.Errorf("%w: key: %w", ErrNone, err)
	}
	return m.add(Event{
		Name: str(r.EventName), Bucket: r.S3.Bucket.Name, Key: key, ETag: r.S3.Object.ETag, Version: str(r.S3.Object.Version),
		Region: str(r.Region), Size: size(r.S3.Object.Size), Time: moment(r.EventTime),
	})
}

// detail of an EventBridge event. Its keys are not encoded.
type detail struct {
	Bucket struct {
		Name string `json:"name"`
	} `json:"bucket"`
	Object struct {
		Key     string         `json:"key"`
		Size    jsontext.Value `json:"size"`
		ETag    string         `json:"etag"`
		Version jsontext.Value `json:"version-id"`
	} `json:"object"`
	Reason       jsontext.Value `json:"reason"`
	DeletionType jsontext.Value `json:"deletion-type"`
}

func (m *Message) eventBridge(e *envelope) error {
	if source := str(e.Source); source != "aws.s3" {
		return fmt.Errorf("%w: an event of %q", ErrNone, source)
	}
	var d detail
	if err := decode(e.Detail, &d); err != nil {
		return fmt.Errorf("detail: %w", err)
	}
	return m.add(Event{
		Name: eventName(e.DetailType, &d), Bucket: d.Bucket.Name, Key: d.Object.Key, ETag: d.Object.ETag, Version: str(d.Object.Version),
		Region: str(e.Region), Size: size(d.Object.Size), Time: moment(e.Time),
	})
}

// reasons of EventBridge, and how S3 says the same.
var reasons = map[string]string{
	"PutObject":               "ObjectCreated:Put",
	"POST Object":             "ObjectCreated:Post",
	"CopyObject":              "ObjectCreated:Copy",
	"CompleteMultipartUpload": "ObjectCreated:CompleteMultipartUpload",
}

// eventName is that of S3 for an event of EventBridge.
func eventName(detailType jsontext.Value, d *detail) string {
	kind, reason := str(detailType), str(d.Reason)
	if kind == "" && d.Object.ETag != "" {
		kind = "Object Created" // Security Lake leaves the type out, and tells the content
	}
	switch kind {
	case "Object Created":
		if name, known := reasons[reason]; known {
			return name
		}
		return "ObjectCreated:" + strings.ReplaceAll(reason, " ", "")
	case "Object Deleted":
		if str(d.DeletionType) == "Delete Marker Created" {
			return "ObjectRemoved:DeleteMarkerCreated"
		}
		return "ObjectRemoved:Delete"
	case "Object Restore Completed":
		return "ObjectRestore:Completed"
	}
	return strings.ReplaceAll(kind, " ", "")
}

// add takes an event with what all forms have in common.
func (m *Message) add(e Event) error {
	e.Name = strings.TrimPrefix(e.Name, "s3:")
	e.ETag = strings.Trim(e.ETag, `"`)
	if e.Version == "null" { // of a bucket without versions
		e.Version = ""
	}
	if !utf8.ValidString(e.Key) {
		return fmt.Errorf("%w: key %q is not UTF-8, which keys are", ErrNone, e.Key)
	}
	if e.Name == "" || e.Bucket == "" || e.Key == "" {
		return fmt.Errorf("%w: event %q, bucket %q, key %q: one of them is missing", ErrNone, e.Name, e.Bucket, e.Key)
	}
	m.Events = append(m.Events, e)
	return nil
}

// str is a JSON string's text; of anything else nothing.
func str(value jsontext.Value) string {
	var text string
	if value.Kind() != '"' || json.Unmarshal(value, &text, lenient) != nil {
		return ""
	}
	return text
}

func size(value jsontext.Value) int64 {
	if number, err := strconv.ParseInt(strings.Trim(string(value), `"`), 10, 64); err == nil && number >= 0 {
		return number
	}
	return -1
}

func moment(value jsontext.Value) time.Time {
	parsed, err := time.Parse(time.RFC3339Nano, str(value))
	if err != nil {
		return time.Time{}
	}
	return parsed.UTC()
}
