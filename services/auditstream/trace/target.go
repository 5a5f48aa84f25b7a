package trace

import (
	"errors"
	"strconv"
	"strings"

	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/topics"
)

// target is what was asked for, as far as its form tells.
type target struct {
	objectID string
	line     int64 // 0: the whole object
	event    int   // of the line's; -1: any

	bucket, key string              // of a URI, the key as it stands
	listed      *objectstore.Listed // what the store says of it now
	auditID     string              // anything else
}

// ErrNoTarget is a question that can't be meant.
var ErrNoTarget = errors.New("nothing to look for: give a row id, an object id, an audit id, or s3://bucket/key with or without :LINE")

// parse takes a row id, an object id, s3://bucket/key[:LINE], or an audit id.
func parse(asked string) (target, error) {
	if bucket, key, isURI := topics.ParseURI(asked); isURI {
		if key == "" {
			return target{}, ErrNoTarget
		}
		return target{bucket: bucket, key: key, event: -1}, nil
	}
	lower := strings.ToLower(strings.TrimSpace(asked))
	if identity.IsObjectID(lower) {
		return target{objectID: lower, event: -1}, nil
	}
	if object, line, event, err := identity.ParseRowID(lower); err == nil && identity.IsObjectID(object) {
		if event == 0 {
			event = -1 // the bare id: the line with all that is in it
		}
		return target{objectID: object, line: line, event: event}, nil
	}
	if strings.TrimSpace(asked) == "" {
		return target{}, ErrNoTarget
	}
	return target{auditID: asked, event: -1}, nil
}

// withLine splits a line's number off a key; a key may end like that by itself.
func withLine(key string) (bare string, line int64, has bool) {
	at := strings.LastIndexByte(key, ':')
	if at <= 0 {
		return key, 0, false
	}
	line, err := strconv.ParseInt(key[at+1:], 10, 64)
	if err != nil || line < 1 {
		return key, 0, false
	}
	return key[:at], line, true
}

// id is what the target is called in the pipeline.
func (t *target) id() string {
	if t.line == 0 {
		return t.objectID
	}
	return identity.RowID(t.objectID, t.line, max(t.event, 0))
}

// matches tells whether a row id is meant.
func (t *target) matches(id string) bool {
	if t.event >= 0 {
		return id == t.id()
	}
	rest, same := strings.CutPrefix(id, t.id())
	return same && (rest == "" || rest[0] == '.')
}
