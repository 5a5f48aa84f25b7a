package embedded

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeNPM puts an npm on PATH that counts its calls and packs the tarball.
func fakeNPM(t *testing.T, script string) (calls func() int) {
	t.Helper()
	folder := t.TempDir()
	log := filepath.Join(folder, "calls")
	text := "#!/bin/sh\necho call >> " + log + "\n" + script
	require.NoError(t, os.WriteFile(filepath.Join(folder, "npm"), []byte(text), 0o755))
	t.Setenv("PATH", folder+string(os.PathListSeparator)+os.Getenv("PATH"))
	return func() int {
		content, err := os.ReadFile(log)
		if err != nil {
			return 0
		}
		return strings.Count(string(content), "call")
	}
}

func tarballWith(t *testing.T, name, content string) (path, integrity string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "package.tgz")
	file, err := os.Create(path)
	require.NoError(t, err)
	compressed := gzip.NewWriter(file)
	archive := tar.NewWriter(compressed)
	require.NoError(t, archive.WriteHeader(&tar.Header{Name: "package/" + name, Mode: 0o755, Size: int64(len(content))}))
	_, err = archive.Write([]byte(content))
	require.NoError(t, err)
	require.NoError(t, archive.Close())
	require.NoError(t, compressed.Close())
	require.NoError(t, file.Close())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	hash := sha512.Sum512(data)
	return path, "sha512-" + base64.StdEncoding.EncodeToString(hash[:])
}

func TestFetchIsOnceAndChecked(t *testing.T) {
	tarball, integrity := tarballWith(t, "libchdb.so", "the library")
	calls := fakeNPM(t, "cp "+tarball+" .")
	folder := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "partial-of-a-dead-process"), 0o755))

	var fetchers sync.WaitGroup
	paths := make([]string, 4)
	failures := make([]error, 4)
	for i := range paths {
		fetchers.Go(func() {
			paths[i], failures[i] = fetchEngine(testContext(t), folder, enginePackage{"engine", integrity}, testLog(t))
		})
	}
	fetchers.Wait()
	for i := range paths {
		require.NoError(t, failures[i])
		content, err := os.ReadFile(paths[i])
		require.NoError(t, err)
		require.Equal(t, "the library", string(content))
	}
	require.Equal(t, 1, calls(), "npm was asked once")
	left, err := filepath.Glob(filepath.Join(folder, "partial-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestFetchSaysWhyNot(t *testing.T) {
	tarball, integrity := tarballWith(t, "libchdb.so", "the library")
	other, otherIntegrity := tarballWith(t, "readme", "no library")
	for name, test := range map[string]struct{ script, integrity, want string }{
		"another hash": {"cp " + tarball + " .", "sha512-other", "integrity check failed: the download has " + integrity},
		"no library":   {"cp " + other + " .", otherIntegrity, "holds no libchdb"},
		"no registry":  {"echo 'npm error code ENOTFOUND' >&2; exit 1", integrity, "registry can't be reached"},
		"disk full":    {"echo 'npm error code ENOSPC' >&2; exit 1", integrity, "disk is full"},
		"not there":    {"echo 'npm error 404 Not Found' >&2; exit 1", integrity, "404 Not Found"},
	} {
		t.Run(name, func(t *testing.T) {
			fakeNPM(t, test.script)
			folder := t.TempDir()
			_, err := fetchEngine(testContext(t), folder, enginePackage{"engine", test.integrity}, testLog(t))
			require.ErrorContains(t, err, test.want)
			require.NoFileExists(t, filepath.Join(folder, "libchdb.so"))
		})
	}
	t.Run("no npm", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := fetchEngine(testContext(t), t.TempDir(), enginePackage{"engine", integrity}, testLog(t))
		require.ErrorIs(t, err, ErrEngineUnavailable)
		require.ErrorContains(t, err, "npm is not on PATH")
	})
}

func TestANamedLibraryMustBeThere(t *testing.T) {
	t.Setenv(libraryVariable, "/nowhere/libchdb.so")
	_, err := FetchEngine(testContext(t), testLog(t))
	require.ErrorContains(t, err, libraryVariable)
}
