// Package servers gives tests the real servers that the pipeline runs
// against: Kafka, ClickHouse, S3, AWS. Each is the one that the environment names,
// so that the same tests run against a real cluster, and is started here
// otherwise. Nothing outside of tests imports it.
//
//	AUDITSTREAM_TEST_KAFKA       broker addresses, separated by commas
//	AUDITSTREAM_TEST_CLICKHOUSE  address[,user[,password]] of the native protocol
//	AUDITSTREAM_TEST_S3          endpoint URL; credentials and region as AWS tools take them
//	AUDITSTREAM_TEST_MOTO        endpoint URL of an AWS emulator, moto
//
// A server that can't be had skips the test, or fails it when CI=true.
//
// Servers are shared within a test process, and named ones with other people:
// tests take names for topics, groups and the like from Name.
package servers

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auditstream/auditstream/pkg/embedded"
)

// startTimeout bounds the start of a server, downloads included.
const startTimeout = 10 * time.Minute

// Main is the body of the TestMain of every package that uses servers.
func Main(m *testing.M) {
	embedded.RunChildIfAsked()
	code := m.Run()
	if err := atEnd.run(); err != nil {
		fmt.Fprintln(os.Stderr, "stop test servers:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// atEnd holds what is to be done when all tests are over, last things first.
var atEnd endings

type endings struct {
	mutex sync.Mutex
	funcs []func() error
}

func (e *endings) add(end func() error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.funcs = append(e.funcs, end)
}

func (e *endings) run() error {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	var first error
	for i := len(e.funcs) - 1; i >= 0; i-- {
		if err := e.funcs[i](); err != nil && first == nil {
			first = err
		}
	}
	e.funcs = nil
	return first
}

// sharedFolder is one that lasts as long as the test process.
func sharedFolder(name string) (string, error) {
	folder, err := os.MkdirTemp("", "auditstream-test-"+name+"-")
	if err != nil {
		return "", fmt.Errorf("create folder for %s: %w", name, err)
	}
	atEnd.add(func() error { return os.RemoveAll(folder) })
	return folder, nil
}

// maxNameLength leaves room below the 63 characters of a bucket's name.
const maxNameLength = 56

// Name returns a name that no other test and no other run has. It is valid for
// topics, groups, transactional ids and buckets.
func Name(t testing.TB, prefix string) string {
	t.Helper()
	var unique [5]byte
	_, _ = rand.Read(unique[:]) // never fails
	suffix := hex.EncodeToString(unique[:])
	name := clean(prefix + "-" + t.Name())
	if room := maxNameLength - len(suffix) - 1; len(name) > room {
		name = strings.TrimRight(name[:room], "-")
	}
	return name + "-" + suffix
}

// clean keeps lower-case letters and digits, and makes one dash of what lies
// between.
func clean(text string) string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	return strings.Join(words, "-")
}

// unavailable ends a test whose server can't be had.
func unavailable(t testing.TB, format string, values ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true asks for every server: "+format, values...)
	}
	t.Skipf(format, values...)
}

func startContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), startTimeout)
}

// log of the shared servers, which outlive the test that starts them.
var log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
