package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
)

const queueURL = "https://sqs.eu-central-1.amazonaws.com/111122223333/audit"

func TestSourcesOfOneBucketAndOneQueue(t *testing.T) {
	for name, one := range map[string]struct {
		sources string
		want    []string // none: the configuration is right
	}{
		"disjoint prefixes":     {"{id: a, bucket: logs, prefix: x/}, {id: b, bucket: logs, prefix: y/}", nil},
		"disjoint suffixes":     {"{id: a, bucket: logs, suffix: .json}, {id: b, bucket: logs, suffix: .gz}", nil},
		"disjoint globs":        {"{id: a, bucket: logs, glob: '*/audit/**'}, {id: b, bucket: logs, glob: '*/events/**'}", nil},
		"same in other buckets": {"{id: a, bucket: logs}, {id: b, bucket: logs-b}", nil},
		"overlapping suffixes": {"{id: a, bucket: logs, suffix: .gz}, {id: b, bucket: logs, prefix: x/}",
			[]string{`sources[1].prefix: with suffix and glob, overlaps sources[0] in bucket logs, by "x/.gz"`}},
		"overlapping globs": {"{id: a, bucket: logs, glob: '*/audit/**'}, {id: b, bucket: logs, glob: '**/kube/**'}",
			[]string{`sources[1].prefix: with suffix and glob, overlaps sources[0] in bucket logs, by "kube/audit/"`}},
		"glob that never matches": {"{id: a, bucket: logs, prefix: x/, glob: 'y/*'}", []string{"sources[0].glob: \"y/*\" matches no key"}},
		"glob that can't be read": {`{id: a, bucket: logs, glob: 'y\'}`, []string{"sources[0].glob: \"y\\\\\" ends in a backslash"}},
		"other roles, same prefix": {"{id: a, bucket: logs, suffix: .json, role: {arn: 'arn:aws:iam::111122223333:role/a'}}, {id: b, bucket: logs, suffix: .gz}",
			[]string{"sources[1].prefix: \"\" in bucket logs overlaps sources[0], which has \"\", so role, region and requesterPays must be the same"}},
		"one queue":                 {"{id: a, bucket: logs, queue: {url: URL}}, {id: b, bucket: logs-b, queue: {url: URL, events: ['s3:ObjectCreated:Put']}}", nil},
		"one queue, other settings": {"{id: a, bucket: logs, queue: {url: URL}}, {id: b, bucket: logs-b, queue: {url: URL, concurrency: 3}}", []string{"sources[1].queue: is the queue of sources[0] too, and has other settings"}},
		"one queue, other role": {"{id: a, bucket: logs, queue: {url: URL}}, {id: b, bucket: logs-b, role: {arn: 'arn:aws:iam::111122223333:role/b'}, queue: {url: URL}}",
			[]string{"sources[1].queue: is the queue of sources[0] too, which receives from it with another role"}},
		"one queue as the process": {"{id: a, bucket: logs, queue: {url: URL}}, {id: b, bucket: logs-b, role: {arn: 'arn:aws:iam::111122223333:role/b'}, queue: {url: URL, identity: process}}", nil},
		"problems of a queue": {"{id: a, bucket: logs, queue: {url: audit, events: [ObjectRemoved:*, 'Object*:Put'], waitTime: 1m, visibilityTimeout: 30500ms, concurrency: 0, identity: sorce}}", []string{
			"sources[0].queue.url: \"audit\" is not the URL of a queue", "sources[0].queue.events[0]: \"ObjectRemoved:*\" is not an event after which",
			"sources[0].queue.events[1]: \"Object*:Put\" has a '*'", "sources[0].queue.waitTime: 1m is out of range",
			"sources[0].queue.visibilityTimeout: 30.5s is not a number of whole seconds", "sources[0].queue.concurrency: 0 is out of range", "did you mean source?",
		}},
		"queue without URL": {"{id: a, bucket: logs, queue: {region: eu-west-1}}", []string{"sources[0].queue.url: missing"}},
		"problems of a role": {"{id: a, bucket: logs, role: {externalID: a, sessionName: 'a b'}}", []string{
			"sources[0].role.arn: missing", "sources[0].role.externalID: may have", "sources[0].role.sessionName: \"a b\" may have"}},
		"no role's name": {"{id: a, bucket: logs, role: {arn: auditstream}}", []string{"sources[0].role.arn: \"auditstream\" is not a role"}},
		"token without a file": {"{id: a, bucket: logs, role: {arn: 'arn:aws:iam::111122223333:role/b', externalID: abc, webIdentityTokenFile: /nowhere}}", []string{
			"sources[0].role.webIdentityTokenFile: /nowhere can't be read", "sources[0].role.externalID: is set, but a role taken with"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load(write(t, "sources: ["+strings.ReplaceAll(one.sources, "URL", queueURL)+"]"), nil)
			if len(one.want) == 0 {
				require.NoError(t, err)
				return
			}
			for _, want := range one.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestAQueueTakesThePlaceOfTheListing(t *testing.T) {
	cfg, err := config.Load(write(t, `sources: [{id: a, bucket: logs}, {id: b, bucket: logs-b, queue: {url: `+queueURL+`}},
		{id: c, bucket: logs-c, queue: {url: `+queueURL+`}, listing: {enabled: true}}]`), nil)
	require.NoError(t, err)
	require.True(t, cfg.Sources[0].Listing.Enabled)
	require.False(t, cfg.Sources[1].Listing.Enabled)
	require.True(t, cfg.Sources[2].Listing.Enabled)
	require.Equal(t, "eu-central-1", cfg.Sources[1].Queue.QueueRegion())
}

func TestQueueRegion(t *testing.T) {
	for url, want := range map[string]string{
		queueURL: "eu-central-1",
		"https://cn-north-1.queue.amazonaws.com.cn/111122223333/a":       "cn-north-1",
		"https://sqs-fips.us-gov-west-1.amazonaws.com/1/a":               "us-gov-west-1",
		"https://sqs.us-east-1.api.aws/1/a":                              "us-east-1",
		"http://127.0.0.1:5000/123456789012/a":                           "",
		"https://sqs.eu-central-1.amazonaws.com.example/111122223333/au": "",
	} {
		require.Equal(t, want, (&config.Queue{URL: url}).QueueRegion(), url)
	}
	require.Equal(t, "x", (&config.Queue{URL: queueURL, Region: "x"}).QueueRegion())
}

func TestSelectors(t *testing.T) {
	source := config.Source{Prefix: "a/", Suffix: ".gz", Glob: "**/audit/**"}
	selects := source.Selector()
	require.True(t, selects("a/b/audit/c.gz"))
	for _, key := range []string{"b/audit/c.gz", "a/audit.gz", "a/audit/c.json"} {
		require.False(t, selects(key), key)
	}
	queue := config.DefaultSource().Queue
	require.True(t, queue.Follows("ObjectCreated:CompleteMultipartUpload"))
	require.False(t, queue.Follows("ObjectRemoved:Delete"))
	queue.Events = []string{"s3:ObjectCreated:Put"}
	require.True(t, queue.Follows("ObjectCreated:Put"))
	require.False(t, queue.Follows("ObjectCreated:PutX"))
}
