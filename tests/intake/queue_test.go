package intake_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/identity"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

// S3 → SNS → SQS and S3 → SQS into one queue, from buckets of two regions in
// another account, by role; every message doubled, in any order, and some told
// in other forms; two instances; a bucket of two sources; and on through the
// enricher and the sink. Every line is there once, in raw and as a row, and what
// is no notification is a dead letter.
func TestFromNotificationsToRows(t *testing.T) {
	const customer = "222233334444"
	moto := servers.Moto(t)
	began := time.Now()
	frankfurt := newAccount(t, moto, customer, "eu-central-1")
	oregon := newAccount(t, moto, customer, "us-west-2")
	queue, queueARN := frankfurt.queue(nil)
	shared, far, other := frankfurt.bucket("shared"), oregon.bucket("far"), frankfurt.bucket("other")
	frankfurt.notify(shared, frankfurt.topicInto(queueARN, false))
	oregon.notify(far, oregon.topicInto(queueARN, true)) // SNS raw delivery, to a queue elsewhere
	frankfurt.notify(other, queueARN)                    // no source's

	role := config.Role{ARN: "arn:aws:iam::" + customer + ":role/auditstream", ExternalID: "ext-1", SessionName: "cluster-a"}
	audit := source("audit", shared, "audit/", queue)
	audit.Glob = "**.log"
	events := source("events", shared, "", queue)
	events.Suffix = ".json"
	remote := source("remote", far, "", queue)
	// Beside the queue a listing finds the same objects.
	remote.Listing = config.Listing{Enabled: true, Interval: 500 * time.Millisecond}
	sources := []config.Source{audit, events, remote}
	for i := range sources {
		sources[i].Role = role
	}
	cfg := connection(moto)
	sts := newRecorder(t, moto.Endpoint)
	cfg.STSEndpoint = sts.URL
	requireValid(t, cfg, sources)

	rows := make(map[string]string)
	var again []string // the same told otherwise
	put := func(a *account, source, bucket, key string) {
		content := auditLines(bucket, key)
		if strings.HasSuffix(key, "7.log") { // as Windows writes it
			content = "\xef\xbb\xbf" + strings.TrimSuffix(strings.ReplaceAll(content, "\n", "\r\n"), "\r\n")
		}
		etag := a.put(bucket, key, content)
		lines(rows, source, identity.ObjectID("aws", bucket, key, etag), content)
		again = append(again,
			bridgeEvent(bucket, key, etag[1:len(etag)-1], len(content)),
			s3Event("minio:s3", "s3:ObjectCreated:Put", bucket, url.QueryEscape(key), etag, len(content)),
			s3Event("aws:s3", "ObjectCreated:Copy", bucket, url.QueryEscape(key), "", len(content))) // without ETag
	}
	for i := range 8 {
		put(frankfurt, "audit", shared, fmt.Sprintf("audit/2026/02/03/kube audit+%d=é/a:00%%2F.log", i))
		put(frankfurt, "events", shared, fmt.Sprintf("other/%d.json", i))
		put(oregon, "remote", far, fmt.Sprintf("x/%d.log", i))
	}
	frankfurt.put(shared, "audit/other.txt", "of no source\n")
	frankfurt.put(shared, "audit/empty.log", "")
	frankfurt.put(shared, "audit/folder/", "")
	frankfurt.put(other, "audit/x.log", "of no source\n")
	_, err := frankfurt.s3.DeleteObject(t.Context(), deletion(shared, "audit/other.txt"))
	require.NoError(t, err)

	bodies := frankfurt.drain(queue)
	require.GreaterOrEqual(t, len(bodies), 8*3+4)
	junk := []string{"hello", `{"Records":[{"eventSource":"aws:ses"}]}`,
		`{"Type":"SubscriptionConfirmation","Token":"t","SubscribeURL":"` + moto.Endpoint + `/confirm"}`}
	bodies = append(append(append(bodies, bodies...), again...), junk...)
	bodies = append(bodies, `{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"x"}`)
	seed := uint64(time.Now().UnixNano())
	t.Logf("order by seed %d", seed)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
	frankfurt.send(queue, bodies...)

	t.Logf("sent at %s", time.Since(began))
	p := newPipeline(t, cfg, sources...)
	table := p.startTable()
	one, stopOne := p.start("one")
	two, stopTwo := p.start("two")
	p.requireRows(rows)
	t.Logf("rows at %s", time.Since(began))
	require.Eventually(t, func() bool {
		waiting, inFlight := frankfurt.depth(queue)
		return waiting == "0" && inFlight == "0"
	}, patience, 100*time.Millisecond, "messages are left in the queue")
	p.requireRows(rows)
	t.Logf("empty at %s", time.Since(began))
	stopOne()
	stopTwo()
	p.requireRows(rows)
	table.requireRows(rows)
	t.Logf("in ClickHouse at %s", time.Since(began))
	letters := p.deadLetters(len(junk))
	require.ElementsMatch(t, junk, slices.Compact(letters[topics.ReasonNotANotification])) // sorted
	require.Len(t, letters, 1)

	// However told, an object has the one id, and was told several times.
	for id, times := range p.announcements(len(rows) / 2 * 3) {
		require.Contains(t, rows, identity.RowID(id, 1, 0))
		require.GreaterOrEqual(t, times, 5)
	}
	// SQS may hand out a message twice, and so does the emulator under load.
	both := func(name string, labels ...string) float64 {
		return metric(t, one, name, labels...) + metric(t, two, name, labels...)
	}
	atLeast := func(want int, name string, labels ...string) {
		t.Helper()
		require.GreaterOrEqual(t, both(name, labels...), float64(want), "%s %v", name, labels)
		require.Less(t, both(name, labels...), float64(want)*1.5+5, "%s %v", name, labels)
	}
	tests := 0
	for _, body := range bodies {
		if strings.Contains(body, "s3:TestEvent") {
			tests++
		}
	}
	require.GreaterOrEqual(t, tests, 1) // the emulator sends some, too
	atLeast(len(bodies), "auditstream_fetcher_queue_messages_total")
	atLeast(tests, "auditstream_fetcher_queue_messages_total", "test")
	atLeast(len(junk), "auditstream_fetcher_queue_messages_total", "deadletter")
	atLeast(len(junk), "auditstream_fetcher_intake_dead_letters_total", "not-a-notification")
	atLeast(2*3, "auditstream_fetcher_intake_skipped_total", "filtered") // a folder, what was put and deleted: each twice
	atLeast(2, "auditstream_fetcher_intake_skipped_total", "bucket")
	atLeast(2, "auditstream_fetcher_intake_skipped_total", "empty")
	require.Positive(t, both("auditstream_fetcher_notified_bytes_total", "announced"))
	require.Positive(t, both("auditstream_fetcher_event_to_announced_seconds"))

	taken := sts.posted("AssumeRole")
	require.NotEmpty(t, taken)
	require.Equal(t, []string{role.ARN, "ext-1", "cluster-a"}, []string{taken[0].Get("RoleArn"), taken[0].Get("ExternalId"), taken[0].Get("RoleSessionName")})
}

// A service account's token in place of keys.
func TestWebIdentity(t *testing.T) {
	const customer = "333344445555"
	moto := servers.Moto(t)
	owner := newAccount(t, moto, customer, "eu-central-1")
	queue, queueARN := owner.queue(nil)
	bucket := owner.bucket("logs")
	owner.notify(bucket, queueARN)
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("of the service account"), 0o600))
	cfg := connection(moto)
	sts := newRecorder(t, moto.Endpoint)
	cfg.STSEndpoint = sts.URL
	cfg.Role = config.Role{ARN: "arn:aws:iam::" + customer + ":role/pod", WebIdentityTokenFile: token}
	content := "one\ntwo\n"
	rows := make(map[string]string)
	lines(rows, "a", identity.ObjectID("aws", bucket, "k", owner.put(bucket, "k", content)), content)

	p := newPipeline(t, cfg, source("a", bucket, "", queue))
	p.start("one")
	p.requireRows(rows)
	taken := sts.posted("AssumeRoleWithWebIdentity")
	require.NotEmpty(t, taken)
	require.Equal(t, []string{"of the service account", "auditstream"},
		[]string{taken[0].Get("WebIdentityToken"), taken[0].Get("RoleSessionName")})
}

// While the objects of a message can't all become durable the message stays,
// and it is worked on when they can.
func TestAMessageStaysUntilAllIsDurable(t *testing.T) {
	moto := servers.Moto(t)
	owner := newAccount(t, moto, servers.MotoAccount, "eu-central-1")
	queue, _ := owner.queue(nil)
	bucket := owner.bucket("logs")
	etag := owner.put(bucket, "k", "one\n")
	// The second record has no ETag, and the store can't be asked for it.
	owner.send(queue, twoRecords(s3Event("aws:s3", "ObjectCreated:Put", bucket, "k", etag, 4), s3Event("aws:s3", "ObjectCreated:Put", bucket, "l", "", 4)))
	otherTag := owner.put(bucket, "l", "two\n")

	faults := newFaults(t, moto.Endpoint)
	cfg := connection(moto)
	cfg.Endpoint = faults.URL
	cfg.STSEndpoint = moto.Endpoint
	p := newPipeline(t, cfg, source("a", bucket, "", queue))
	p.sources[0].Queue.Endpoint = moto.Endpoint
	faults.refuse.Store(true)
	registry, _ := p.start("one")
	require.Eventually(t, func() bool {
		return metric(t, registry, "auditstream_fetcher_queue_messages_total", "kept") > 0
	}, patience, 50*time.Millisecond)
	require.Positive(t, faults.fired.Load())
	waiting, inFlight := owner.depth(queue)
	require.Contains(t, []string{"1 0", "0 1"}, waiting+" "+inFlight)

	faults.refuse.Store(false)
	rows := make(map[string]string)
	lines(rows, "a", identity.ObjectID("aws", bucket, "k", etag), "one\n")
	lines(rows, "a", identity.ObjectID("aws", bucket, "l", otherTag), "two\n")
	p.requireRows(rows)
	require.Eventually(t, func() bool {
		waiting, inFlight := owner.depth(queue)
		return waiting == "0" && inFlight == "0"
	}, patience, 100*time.Millisecond)
	require.Positive(t, metric(t, registry, "auditstream_fetcher_queue_redeliveries_total"))
	require.Positive(t, metric(t, registry, "auditstream_fetcher_queue_messages_total", "announced"))
}

// Two queues in two regions, each with a source that has a role of its own, in
// one instance. An object overwritten in a bucket with versions is both of its
// versions: the first is read although another is there now.
func TestSeveralQueuesRolesAndVersions(t *testing.T) {
	const customer = "444455556666"
	moto := servers.Moto(t)
	frankfurt, oregon := newAccount(t, moto, customer, "eu-central-1"), newAccount(t, moto, customer, "us-west-2")
	nearQueue, _ := frankfurt.queue(nil)
	farQueue, _ := oregon.queue(nil)
	near, far := frankfurt.bucket("near"), oregon.bucket("far")
	sources := []config.Source{source("near", near, "", nearQueue), source("far", far, "", farQueue)}
	sources[0].Queue.Region, sources[1].Queue.Region = "eu-central-1", "us-west-2"
	for i := range sources {
		sources[i].Role = config.Role{ARN: "arn:aws:iam::" + customer + ":role/" + sources[i].ID, ExternalID: "ext-" + sources[i].ID}
	}
	cfg := connection(moto)
	sts := newRecorder(t, moto.Endpoint)
	cfg.STSEndpoint = sts.URL
	requireValid(t, cfg, sources)

	rows := make(map[string]string)
	for _, at := range []struct {
		in                    *account
		source, bucket, queue string
	}{{frankfurt, "near", near, nearQueue}, {oregon, "far", far, farQueue}} {
		_, err := at.in.s3.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
			Bucket: &at.bucket, VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled},
		})
		require.NoError(t, err)
		for i := range 3 {
			content := fmt.Sprintf("version %d\nof the object\n", i)
			put, err := at.in.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &at.bucket, Key: aws.String("k"), Body: strings.NewReader(content)})
			require.NoError(t, err)
			require.NotEmpty(t, *put.VersionId)
			lines(rows, at.source, identity.ObjectID("aws", at.bucket, "k", *put.ETag), content)
			// The emulator's own notifications leave the version out.
			event := s3Event("aws:s3", "ObjectCreated:Put", at.bucket, "k", *put.ETag, len(content))
			at.in.send(at.queue, strings.Replace(event, `"key":"k"`, `"key":"k","versionId":"`+*put.VersionId+`"`, 1))
		}
	}
	p := newPipeline(t, cfg, sources...)
	registry, _ := p.start("one")
	p.requireRows(rows)
	require.Empty(t, p.deadLetters(0))
	for _, queue := range []string{nearQueue, farQueue} {
		name := queue[strings.LastIndex(queue, "/"):]
		require.GreaterOrEqual(t, metric(t, registry, "auditstream_fetcher_queue_messages_total", name, "announced"), 3.0)
	}
	taken := make(map[string]string)
	for _, form := range sts.posted("AssumeRole") {
		taken[form.Get("RoleArn")] = form.Get("ExternalId")
	}
	for _, source := range sources {
		require.Equal(t, source.Role.ExternalID, taken[source.Role.ARN])
	}
}
