package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/topics"
)

// queries asks the engine over HTTP, as a user with curl would.
type queries struct {
	client  *http.Client
	address string
	table   string
}

func (q queries) open(ctx context.Context, query string) (io.ReadCloser, error) {
	address := "http://" + q.address + "/?output_format_pretty_color=0&output_format_pretty_row_numbers=0&query=" +
		url.QueryEscape(strings.ReplaceAll(query, "{table}", q.table))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := q.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("query ClickHouse: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(response.Body, 2000))
		return nil, fmt.Errorf("query ClickHouse: %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	return response.Body, nil
}

func (q queries) text(ctx context.Context, query string) (string, error) {
	body, err := q.open(ctx, query)
	if err != nil {
		return "", err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		return "", fmt.Errorf("query ClickHouse: %w", err)
	}
	return string(text), nil
}

// numbers runs a query whose one row holds whole numbers.
func (q queries) numbers(ctx context.Context, query string, into ...*int) error {
	text, err := q.text(ctx, query+" FORMAT TabSeparated")
	if err != nil {
		return err
	}
	fields := strings.Fields(text)
	if len(fields) != len(into) {
		return fmt.Errorf("query ClickHouse: %d values in %q, want %d", len(fields), text, len(into))
	}
	for i := range into {
		if *into[i], err = strconv.Atoi(fields[i]); err != nil {
			return fmt.Errorf("query ClickHouse: %w", err)
		}
	}
	return nil
}

// ids calls yield for the id of every row, duplicates included.
func (q queries) ids(ctx context.Context, yield func(id string)) error {
	return q.lines(ctx, "SELECT id FROM {table}", func(id string) error {
		yield(id)
		return nil
	})
}

// lines calls yield for every row, its values with tabs between them.
func (q queries) lines(ctx context.Context, query string, yield func(line string) error) error {
	body, err := q.open(ctx, query+" FORMAT TabSeparated")
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		if err := yield(lines.Text()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the answer of ClickHouse: %w", err)
	}
	return nil
}

// deadLetters follows the topic of dead letters.
type deadLetters struct {
	client *kgo.Client
	topic  string

	mu      sync.Mutex
	letters []topics.DeadLetterRecord
	offsets map[int32]int64 // next to read
}

func openDeadLetters(brokers []string, topic string) (*deadLetters, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // so that offsets reach the topic's end
	)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	return &deadLetters{client: client, topic: topic, offsets: make(map[int32]int64)}, nil
}

// follow reads until ctx is done.
func (d *deadLetters) follow(ctx context.Context) error {
	for {
		fetches := d.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var failed error
		fetches.EachError(func(_ string, partition int32, err error) {
			failed = errors.Join(failed, fmt.Errorf("read %s/%d: %w", d.topic, partition, err))
		})
		d.mu.Lock()
		fetches.EachRecord(func(record *kgo.Record) {
			d.offsets[record.Partition] = record.Offset + 1
			if record.Attrs.IsControl() || topics.IsRetried(record) {
				return
			}
			letter, err := topics.DecodeDeadLetter(record)
			if err != nil {
				letter = topics.DeadLetterRecord{Reason: topics.ReasonMalformedRecord, Error: err.Error()}
			}
			letter.Bytes = nil
			d.letters = append(d.letters, letter)
		})
		d.mu.Unlock()
		if failed != nil {
			return failed
		}
	}
}

func (d *deadLetters) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.letters)
}

// all returns every dead letter once as much has been read as is committed.
func (d *deadLetters) all(ctx context.Context) ([]topics.DeadLetterRecord, bool, error) {
	ends, err := kadm.NewClient(d.client).ListCommittedOffsets(ctx, d.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, false, fmt.Errorf("list the offsets of %s: %w", d.topic, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	complete := true
	ends.Each(func(end kadm.ListedOffset) {
		complete = complete && d.offsets[end.Partition] >= end.Offset
	})
	return d.letters, complete, nil
}
