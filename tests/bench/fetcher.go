package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/embedded"
	"github.com/auditstream/auditstream/pkg/generate"
	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/services/fetcher"
	"github.com/auditstream/auditstream/services/fetcher/intake"
	"github.com/auditstream/auditstream/topics"
)

// load is what the fetcher is measured with: objects of one size.
type load struct {
	name    string
	size    int // stored bytes of an object
	objects int
	bodies  int // that differ from each other
	target  float64
}

const (
	fetcherBucket = "bench"
	// fetcherMemory is the most that the process may need.
	fetcherMemory = 512 << 20
)

// benchFetcher compares with a bare loop that gets and decompresses the same
// objects with as many workers, on the same processors, and does nothing with
// them. The S3 server is another process for both. The fetcher's figure has to
// pay for the broker, too, which runs on the same processors, and begins with
// joining the group: no allowance is made for either.
func benchFetcher(ctx context.Context, o options) (figures []figure, err error) {
	server, err := embedded.StartS3(ctx, embedded.S3Options{Directory: filepath.Join(o.scratch, "s3"), Log: o.log})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	if err := server.EnsureBucket(ctx, fetcherBucket); err != nil {
		return nil, err
	}
	sample, err := lines(o.seed, generate.Mixed, 20_000, 0)
	if err != nil {
		return nil, err
	}
	for _, l := range []load{
		{"fetcher, objects of 20 KB", 20_000, 12_000, 12_000, 0.6},
		{"fetcher, objects of 32 MB", 32_000_000, 12, 4, 0.6},
	} {
		measured, err := benchLoad(ctx, o, server, sample, l)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
		figures = append(figures, measured...)
	}
	return figures, nil
}

func benchLoad(ctx context.Context, o options, server *embedded.S3, sample [][]byte, l load) ([]figure, error) {
	prefix := strconv.Itoa(l.size) + "/"
	decompressed, err := putLoad(ctx, server, sample, l, prefix)
	if err != nil {
		return nil, err
	}
	settings := config.Default()
	settings.S3 = config.S3{
		Endpoint: server.Endpoint(), Alias: "bench", Region: server.Region, PathStyle: true,
		AccessKeyID: server.AccessKeyID, SecretAccessKey: config.Secret(server.SecretAccessKey),
	}
	var peak int64
	var bare, own, brokers time.Duration // processor time, of all rounds
	ceiling, value, err := inTurns(o.rounds,
		func(int) (float64, error) {
			cost, err := getAndDecompress(ctx, server, prefix, settings.Fetcher.Concurrency)
			bare += cost.processor
			return float64(decompressed) / cost.seconds / 1e6, err
		},
		func(round int) (float64, error) {
			cost, err := fetchLoad(ctx, o, settings, l, prefix, round)
			peak = max(peak, cost.memory)
			own += cost.processor
			brokers += cost.broker
			return float64(decompressed) / cost.seconds / 1e6, err
		})
	if err != nil {
		return nil, err
	}
	against := fmt.Sprintf("GET and gunzip (klauspost/compress) of the same %d objects by %d workers", l.objects, settings.Fetcher.Concurrency)
	figures := []figure{{name: l.name, value: value, ceiling: ceiling, unit: "MB/s", ratio: value / ceiling, target: l.target, against: against}}
	perGigabyte := func(spent time.Duration) float64 {
		return spent.Seconds() * 1e9 / float64(decompressed) / float64(o.rounds)
	}
	figures = append(figures, figure{
		name: l.name + ", processor", value: perGigabyte(own), unit: "s/GB",
		against: fmt.Sprintf("seconds of processor time for a decompressed GB; the bare loop takes %.2f, the broker's process beside the fetcher %.2f",
			perGigabyte(bare), perGigabyte(brokers)),
	})
	if peak > 0 {
		figures = append(figures, figure{
			name: l.name + ", peak memory", value: float64(peak) / (1 << 20), ceiling: fetcherMemory >> 20, unit: "MiB",
			ratio: float64(peak) / fetcherMemory, target: 1, atMost: true,
			against: "resident memory of the fetcher's process; the broker is another one",
		})
	}
	return figures, nil
}

// cost is what one measurement took.
type cost struct {
	seconds   float64
	processor time.Duration // of this process
	broker    time.Duration // processor time of the broker's, from its start to its end
	memory    int64         // the most that was resident
}

// putLoad stores objects of about the size and tells how many bytes they
// decompress to.
func putLoad(ctx context.Context, server *embedded.S3, sample [][]byte, l load, prefix string) (int64, error) {
	var total atomic.Int64
	next := make(chan int)
	var failed atomic.Pointer[error]
	var workers sync.WaitGroup
	client := server.Client()
	for range 4 {
		workers.Go(func() {
			for first := range next {
				content, size, err := zipped(sample, first, l.size)
				for i := first; i < l.objects && err == nil; i += l.bodies {
					key := prefix + fmt.Sprintf("%06d.json.gz", i)
					_, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: new(string(fetcherBucket)), Key: &key, Body: bytes.NewReader(content)})
					total.Add(size)
				}
				if err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	for first := range l.bodies {
		next <- first
	}
	close(next)
	workers.Wait()
	if err := failed.Load(); err != nil {
		return 0, fmt.Errorf("put objects: %w", *err)
	}
	return total.Load(), nil
}

// zipped is an object of about the size as stored.
func zipped(sample [][]byte, object, size int) (content []byte, decompressed int64, err error) {
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	for i := object * 37; out.Len() < size; i++ {
		for _, part := range [][]byte{sample[i%len(sample)], {'\n'}} {
			n, err := writer.Write(part)
			if err != nil {
				return nil, 0, err
			}
			decompressed += int64(n)
		}
		if i%8 == 0 && size < 1<<20 {
			if err := writer.Flush(); err != nil {
				return nil, 0, err
			}
		}
	}
	err = writer.Close()
	return out.Bytes(), decompressed, err
}

// getAndDecompress is the bare loop.
func getAndDecompress(ctx context.Context, server *embedded.S3, prefix string, workers int) (took cost, err error) {
	store, err := objectstore.New(ctx, config.S3{
		Endpoint: server.Endpoint(), Region: server.Region, PathStyle: true,
		AccessKeyID: server.AccessKeyID, SecretAccessKey: config.Secret(server.SecretAccessKey),
	}, objectstore.Options{})
	if err != nil {
		return cost{}, err
	}
	var keys []string
	if err := store.List(ctx, fetcherBucket, prefix, "", func(listed objectstore.Listed) error {
		keys = append(keys, listed.Key)
		return nil
	}); err != nil {
		return cost{}, err
	}
	client := server.Client()
	before, err := processorTime()
	if err != nil {
		return cost{}, err
	}
	began := time.Now()
	next := make(chan string)
	var failed atomic.Pointer[error]
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			var reader gzip.Reader
			buffer := make([]byte, 256<<10)
			for key := range next {
				if err := getOne(ctx, client, key, &reader, buffer); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	for _, key := range keys {
		next <- key
	}
	close(next)
	group.Wait()
	if err := failed.Load(); err != nil {
		return cost{}, *err
	}
	took.seconds = time.Since(began).Seconds()
	after, err := processorTime()
	took.processor = after - before
	return took, err
}

func getOne(ctx context.Context, client *s3.Client, key string, reader *gzip.Reader, buffer []byte) error {
	out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: new(string(fetcherBucket)), Key: &key})
	if err != nil {
		return err
	}
	defer out.Body.Close()
	if err := reader.Reset(out.Body); err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, reader, buffer)
	return err
}

// fetchLoad runs the fetcher over announced objects until all are in raw.
func fetchLoad(ctx context.Context, o options, settings config.Config, l load, prefix string, round int) (took cost, err error) {
	b, err := startBroker(ctx, o, fmt.Sprint("fetcher", l.size, "-", round))
	if err != nil {
		return cost{}, err
	}
	defer func() {
		err = errors.Join(err, b.close())
		took.broker = b.server.processor
	}()
	settings.Kafka = b.cfg.Kafka
	if err := announceLoad(ctx, b, settings.S3, prefix); err != nil {
		return cost{}, err
	}
	registry := prometheus.NewRegistry()
	stage, err := fetcher.New(ctx, fetcher.Options{
		Config: settings.Fetcher, Topics: settings.Topics, Kafka: settings.Kafka, S3: settings.S3,
		Sources: []config.Source{{ID: "bench", Bucket: fetcherBucket, Prefix: prefix}}, Log: o.log, Registerer: registry,
	})
	if err != nil {
		return cost{}, err
	}
	resetPeak()
	stopProfile, err := profileCPU(o, fmt.Sprint("fetcher", l.size, "-", round))
	if err != nil {
		return cost{}, err
	}
	defer stopProfile()
	before, err := processorTime()
	if err != nil {
		return cost{}, err
	}
	done := func(context.Context) (int, error) { return doneObjects(registry) }
	if took.seconds, err = until(ctx, l.objects, done, stage.Run); err != nil {
		return cost{}, err
	}
	after, err := processorTime()
	took.processor, took.memory = after-before, peakMemory()
	return took, err
}

func announceLoad(ctx context.Context, b *broker, s3Config config.S3, prefix string) error {
	store, err := objectstore.New(ctx, s3Config, objectstore.Options{})
	if err != nil {
		return err
	}
	metrics, err := intake.NewMetrics(nil)
	if err != nil {
		return err
	}
	announcer := intake.NewAnnouncer(b.client, b.names.Objects, store.Alias(), metrics)
	var failed atomic.Pointer[error]
	err = store.List(ctx, fetcherBucket, prefix, "", func(listed objectstore.Listed) error {
		announcer.Announce(ctx, intake.Found{
			Source: "bench", Bucket: fetcherBucket, Key: listed.Key, ETag: listed.ETag, Size: listed.Size,
			LastModified: listed.LastModified, Cause: topics.CauseListed,
		}, func(err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
		return nil
	})
	if err == nil {
		err = announcer.Flush(ctx)
	}
	if first := failed.Load(); err == nil && first != nil {
		err = *first
	}
	return err
}

// doneObjects is how many objects the fetcher has produced to their end.
func doneObjects(registry *prometheus.Registry) (int, error) {
	families, err := registry.Gather()
	if err != nil {
		return 0, err
	}
	for _, family := range families {
		if family.GetName() != "auditstream_fetcher_objects_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			if metric.GetLabel()[0].GetValue() == "done" {
				return int(metric.GetCounter().GetValue()), nil
			}
		}
	}
	return 0, nil
}

// until runs work until count reaches n and returns the seconds that it took.
func until(ctx context.Context, n int, count func(context.Context) (int, error), work func(context.Context) error) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- work(ctx) }()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := count(ctx)
		switch {
		case err != nil:
			cancel()
			return 0, errors.Join(err, <-ended)
		case now >= n:
			seconds := time.Since(began).Seconds()
			cancel()
			return seconds, <-ended
		}
		select {
		case err := <-ended:
			return 0, fmt.Errorf("ended after %d of %d: %w", now, n, err)
		case <-tick.C:
		}
	}
}

// resetPeak makes the peak of the process's memory start anew, where the
// system can, without what making the objects has left behind.
func resetPeak() {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // without it the peak is too high, never too low
}

// peakMemory is the most resident memory since then; zero where the system
// doesn't say.
func peakMemory() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err == nil {
				return kilobytes << 10
			}
		}
	}
	return 0
}
