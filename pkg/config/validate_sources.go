package config

import (
	"errors"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/auditstream/auditstream/pkg/glob"
)

// bucketName follows S3's rules, and lets through the capitals and underscores
// of old buckets and other stores.
var bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]$`)

func (c *checker) sources(sources []Source) {
	ids := map[string]int{}
	for i := range sources {
		s := &sources[i]
		key := index("sources", i)
		if c.identifier(key+".id", s.ID, 200) {
			if first, taken := ids[s.ID]; taken {
				c.problem(key+".id", "%q is the id of %s too", s.ID, index("sources", first))
			} else {
				ids[s.ID] = i
			}
		}
		if s.Workspace != "" {
			c.identifier(key+".workspace", s.Workspace, 200)
		}
		if s.TTLDays > MaxTTLDays {
			c.problem(key+".ttlDays", "%d is out of range; at most %d, 0 keeps for ever", s.TTLDays, MaxTTLDays)
		}
		switch {
		case s.Bucket == "":
			c.problem(key+".bucket", "missing")
		case !bucketName.MatchString(s.Bucket):
			c.problem(key+".bucket", "%q is not the name of a bucket (no s3://, no path)", s.Bucket)
		default:
			c.overlap(sources, i)
		}
		if !utf8.ValidString(s.Prefix) || strings.HasPrefix(s.Prefix, "s3://") {
			c.problem(key+".prefix", "%q is not the start of an object's key", s.Prefix)
		}
		c.selection(key, s)
		c.role(key+".role", &s.Role)
		c.queue(sources, i)
		for tag := range s.Tags {
			if tag == "" {
				c.problem(key+".tags", "a tag has no name")
			}
		}
		if s.APIServerAddress != "" && !isIP(s.APIServerAddress) {
			c.problem(key+".apiServerAddress", "%q is not an IP address", s.APIServerAddress)
		}
		for j, network := range s.TrustedProxies {
			if _, err := netip.ParsePrefix(network); err != nil {
				c.problem(index(key+".trustedProxies", j), "%q is not a network; write it like 10.0.0.0/8", network)
			}
		}
		for j, name := range s.EventKeys {
			if name == "" {
				c.problem(index(key+".eventKeys", j), "missing")
			}
		}
		if s.Listing.Enabled {
			c.duration(key+".listing.interval", s.Listing.Interval, 100*time.Millisecond, 30*day)
		}
	}
}

// overlap refuses two sources of the same objects: an object's rows belong to
// one source, and which would be left to chance.
func (c *checker) overlap(sources []Source, i int) {
	b, key := &sources[i], index("sources", i)
	for j := range i {
		a := &sources[j]
		if a.Bucket != b.Bucket || !strings.HasPrefix(a.Prefix, b.Prefix) && !strings.HasPrefix(b.Prefix, a.Prefix) {
			continue
		}
		// What they differ in beside the prefix can't be told from a request that
		// lists one.
		if a.Role != b.Role || a.Region != b.Region || a.RequesterPays != b.RequesterPays {
			c.problem(key+".prefix", "%q in bucket %s overlaps %s, which has %q, so role, region and requesterPays must be the same",
				b.Prefix, b.Bucket, index("sources", j), a.Prefix)
			continue
		}
		patterns, err := patternsOf(a, b)
		if err != nil {
			continue // reported where it stands
		}
		example, found, err := glob.Overlap(patterns...)
		switch {
		case err != nil:
			c.problem(key+".glob", "can't be told apart from %s: %s; use simpler patterns, or prefixes", index("sources", j), err)
		case found && a.Suffix+a.Glob+b.Suffix+b.Glob == "":
			c.problem(key+".prefix", "%q in bucket %s overlaps %s, which has %q: an object belongs to one source",
				b.Prefix, b.Bucket, index("sources", j), a.Prefix)
		case found:
			c.problem(key+".prefix", "with suffix and glob, overlaps %s in bucket %s, by %q for one: an object belongs to one source",
				index("sources", j), b.Bucket, example)
		}
	}
}

func patternsOf(sources ...*Source) ([]glob.Pattern, error) {
	var patterns []glob.Pattern
	for _, s := range sources {
		patterns = append(patterns, glob.Prefix(s.Prefix))
		if s.Suffix != "" {
			patterns = append(patterns, glob.Suffix(s.Suffix))
		}
		if s.Glob != "" {
			pattern, err := glob.Compile(s.Glob)
			if err != nil {
				return nil, err
			}
			patterns = append(patterns, pattern)
		}
	}
	return patterns, nil
}

// selection checks what picks the source's objects out of the bucket.
func (c *checker) selection(key string, s *Source) {
	if !utf8.ValidString(s.Suffix) {
		c.problem(key+".suffix", "%q is not the end of an object's key", s.Suffix)
	}
	if s.Glob == "" {
		return
	}
	if _, err := glob.Compile(s.Glob); err != nil {
		c.problem(key+".glob", "%q %s", s.Glob, err)
		return
	}
	if patterns, err := patternsOf(s); err == nil {
		if _, found, err := glob.Overlap(patterns...); err == nil && !found {
			c.problem(key+".glob", "%q matches no key that has the prefix %q and the suffix %q (it is about the whole key)", s.Glob, s.Prefix, s.Suffix)
		}
	}
}

var (
	roleARN     = regexp.MustCompile(`^arn:[a-z0-9-]+:iam::\d*:role/\S+$`)
	sessionName = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{2,64}$`)
	externalID  = regexp.MustCompile(`^[A-Za-z0-9_+=,.@:/-]+$`)
)

func (c *checker) role(key string, r *Role) {
	switch {
	case r.ARN == "" && *r != Role{}:
		c.problem(key+".arn", "missing: other keys of %s are set, and there is no role to use them for", key)
	case r.ARN != "" && !roleARN.MatchString(r.ARN):
		c.problem(key+".arn", "%q is not a role; write it like arn:aws:iam::111122223333:role/name", r.ARN)
	}
	if n := len(r.ExternalID); n > 0 && (n < 2 || n > 1224 || !externalID.MatchString(r.ExternalID)) {
		c.problem(key+".externalID", "may have 2 to 1224 letters, digits and _+=,.@:/- only")
	}
	if r.SessionName != "" && !sessionName.MatchString(r.SessionName) {
		c.problem(key+".sessionName", "%q may have 2 to 64 letters, digits and _+=,.@- only", r.SessionName)
	}
	if r.WebIdentityTokenFile != "" {
		c.readable(key+".webIdentityTokenFile", r.WebIdentityTokenFile)
		if r.ExternalID != "" {
			c.problem(key+".externalID", "is set, but a role taken with %s.webIdentityTokenFile has no external id", key)
		}
	}
}

func (c *checker) queue(sources []Source, i int) {
	key, q := index("sources", i)+".queue", &sources[i].Queue
	if q.URL == "" {
		if q.Region != "" || q.Endpoint != "" {
			c.problem(key+".url", "missing: other keys of %s are set, and there is no queue to use them for", key)
		}
		return
	}
	if parsed, err := url.Parse(q.URL); err != nil || parsed.Host == "" || strings.Trim(parsed.Path, "/") == "" ||
		(parsed.Scheme != "https" && parsed.Scheme != "http") {
		c.problem(key+".url", "%q is not the URL of a queue; it looks like https://sqs.eu-central-1.amazonaws.com/111122223333/name", q.URL)
	}
	if q.Endpoint != "" {
		c.url(key+".endpoint", q.Endpoint)
	}
	c.oneOf(key+".identity", q.Identity, IdentitySource, IdentityProcess)
	if len(q.Events) == 0 {
		c.problem(key+".events", "missing: no event would announce an object")
	}
	for j, event := range q.Events {
		if err := checkEvent(event); err != nil {
			c.problem(index(key+".events", j), "%q %s", event, err)
		}
	}
	if c.duration(key+".waitTime", q.WaitTime, 0, 20*time.Second) {
		c.wholeSeconds(key+".waitTime", q.WaitTime)
	}
	if c.duration(key+".visibilityTimeout", q.VisibilityTimeout, 10*time.Second, 12*time.Hour) {
		c.wholeSeconds(key+".visibilityTimeout", q.VisibilityTimeout)
	}
	c.number(key+".concurrency", q.Concurrency, 1, 256)
	for j := range i {
		c.sharedQueue(key, index("sources", j), &sources[j], &sources[i])
	}
}

// sharedQueue refuses two sources that name one queue and differ in how it is
// to be received: there is one receiver for both.
func (c *checker) sharedQueue(key, other string, a, b *Source) {
	if a.Queue.URL != b.Queue.URL {
		return
	}
	x, y := a.Queue, b.Queue
	x.Events, y.Events = nil, nil   // each source has its own
	x.Identity, y.Identity = "", "" // what counts is the role
	if !reflect.DeepEqual(x, y) {
		c.problem(key, "is the queue of %s too, and has other settings there", other)
	}
	if a.QueueRole() != b.QueueRole() {
		c.problem(key, "is the queue of %s too, which receives from it with another role; set identity: %s for both", other, IdentityProcess)
	}
}

func checkEvent(event string) error {
	name := strings.TrimPrefix(event, "s3:")
	if i := strings.IndexByte(name, '*'); i >= 0 && i != len(name)-1 {
		return errors.New("has a '*' that is not at its end")
	}
	if !strings.HasPrefix(name, "ObjectCreated:") && name != "ObjectRestore:Completed" {
		return errors.New("is not an event after which there is an object to read: ObjectCreated:*, ObjectCreated:Put and such, ObjectRestore:Completed")
	}
	return nil
}

func (c *checker) wholeSeconds(key string, value time.Duration) {
	if value%time.Second != 0 {
		c.problem(key, "%s is not a number of whole seconds, which is what SQS counts in", FormatDuration(value))
	}
}
