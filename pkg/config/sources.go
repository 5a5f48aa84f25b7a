package config

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/auditstream/auditstream/pkg/glob"
)

// Selector tells of a key of the source's bucket whether the object is the
// source's. A glob that can't be read selects nothing; validation refuses it.
func (s *Source) Selector() func(key string) bool {
	prefix, suffix := s.Prefix, s.Suffix
	byEnds := func(key string) bool { return strings.HasPrefix(key, prefix) && strings.HasSuffix(key, suffix) }
	if s.Glob == "" {
		return byEnds
	}
	pattern, err := glob.Compile(s.Glob)
	return func(key string) bool { return err == nil && byEnds(key) && pattern.Match(key) }
}

// Follows tells whether events of the name (without "s3:") announce objects.
func (q *Queue) Follows(event string) bool {
	for _, pattern := range q.Events {
		pattern = strings.TrimPrefix(pattern, "s3:")
		start, open := strings.CutSuffix(pattern, "*")
		if event == pattern || open && strings.HasPrefix(event, start) {
			return true
		}
	}
	return false
}

// QueueRole is the role that the source's queue is received with.
func (s *Source) QueueRole() Role {
	if s.Queue.Identity == IdentityProcess {
		return Role{}
	}
	return s.Role
}

// queueHost is that of a queue's URL at AWS: sqs.eu-central-1.amazonaws.com, or
// the old eu-central-1.queue.amazonaws.com.
var queueHost = regexp.MustCompile(`^(?:sqs(?:-fips)?\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)$`)

// QueueRegion is the one given, or that of the URL, or empty.
func (q *Queue) QueueRegion() string {
	if q.Region != "" {
		return q.Region
	}
	parsed, err := url.Parse(q.URL)
	if err != nil {
		return ""
	}
	if match := queueHost.FindStringSubmatch(parsed.Hostname()); match != nil {
		return match[1] + match[2]
	}
	return ""
}
