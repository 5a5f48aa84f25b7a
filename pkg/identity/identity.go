// Package identity gives objects and rows their ids. Every path to a line
// (notification, listing, retry, replay) must come to the same id, because
// the id is what makes doing work again harmless.
package identity

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// ObjectIDLength is the length of an object id in bytes of text.
const ObjectIDLength = 32

// lineDigits are enough for 10^12 lines of one object.
const lineDigits = 12

// eventDigits are enough for a million events in one line.
const eventDigits = 6

// ObjectID names one content of one S3 object: the first 128 bits of the
// SHA-256 of endpoint alias, bucket, key and ETag, each with its length before
// it, as 32 lower-case hexadecimal digits.
//
// key is the decoded key (not as notifications encode it). Quotes around etag
// are removed. An object overwritten with other bytes has another ETag and so
// another id.
func ObjectID(endpointAlias, bucket, key, etag string) string {
	hash := sha256.New()
	var length [8]byte
	for _, part := range [...]string{endpointAlias, bucket, key, strings.Trim(etag, `"`)} {
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		hash.Write(length[:])
		hash.Write([]byte(part))
	}
	return hex.EncodeToString(hash.Sum(nil)[:ObjectIDLength/2])
}

// IsObjectID tells whether text has the form of an object id. A URI never does.
func IsObjectID(text string) bool {
	return len(text) == ObjectIDLength && strings.Trim(text, "0123456789abcdef") == ""
}

// AppendRowID appends the id of an event to dst: "<object id>-<line>", and for
// the second and further events of one line ".<n>" after it. Zero padding makes
// the ids of one object sort in the order of its lines.
//
// line counts physical lines from 1; event counts the line's events from 0.
func AppendRowID(dst []byte, objectID string, line int64, event int) []byte {
	dst = append(dst, objectID...)
	dst = append(dst, '-')
	dst = appendPadded(dst, line, lineDigits)
	if event > 0 {
		dst = append(dst, '.')
		dst = appendPadded(dst, int64(event), eventDigits)
	}
	return dst
}

// RowID is AppendRowID as a string.
func RowID(objectID string, line int64, event int) string {
	return string(AppendRowID(nil, objectID, line, event))
}

func appendPadded(dst []byte, number int64, width int) []byte {
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], number, 10)
	for i := len(text); i < width; i++ {
		dst = append(dst, '0')
	}
	return append(dst, text...)
}

// ParseRowID is the inverse of RowID.
func ParseRowID(id string) (objectID string, line int64, event int, err error) {
	objectID, rest, found := strings.Cut(id, "-")
	if !found || len(objectID) != ObjectIDLength {
		return "", 0, 0, fmt.Errorf("row id %q: want <%d hexadecimal digits>-<line>", id, ObjectIDLength)
	}
	lineText, eventText, several := strings.Cut(rest, ".")
	if line, err = strconv.ParseInt(lineText, 10, 64); err != nil || len(lineText) < lineDigits {
		return "", 0, 0, fmt.Errorf("row id %q: bad line number %q", id, lineText)
	}
	if several {
		if event, err = strconv.Atoi(eventText); err != nil || event < 1 {
			return "", 0, 0, fmt.Errorf("row id %q: bad event number %q", id, eventText)
		}
	}
	return objectID, line, event, nil
}
