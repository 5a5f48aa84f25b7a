package embedded

import (
	"archive/tar"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
)

// checkIntegrity compares a file with a hash in npm's notation.
func checkIntegrity(file, integrity string) error {
	source, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("check integrity: %w", err)
	}
	defer source.Close()
	hash := sha512.New()
	if _, err := io.Copy(hash, source); err != nil {
		return fmt.Errorf("check integrity: %w", err)
	}
	got := "sha512-" + base64.StdEncoding.EncodeToString(hash.Sum(nil))
	if got != integrity {
		return fmt.Errorf("integrity check failed: the download has %s, expected %s", got, integrity)
	}
	return nil
}

// unpackLibrary puts the library that the tarball holds at target, which is
// there whole or not at all.
func unpackLibrary(tarball, target string) error {
	source, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer source.Close()
	compressed, err := gzip.NewReader(source)
	if err != nil {
		return fmt.Errorf("%s: %w", tarball, err)
	}
	archive := tar.NewReader(compressed)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s holds no libchdb", tarball)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", tarball, err)
		}
		switch path.Base(header.Name) {
		case "libchdb.so", "libchdb.dylib":
			// The name is the same on every platform; the loader does not mind.
			return writeWhole(archive, filepath.Join(filepath.Dir(tarball), "library"), target)
		}
	}
}

// writeWhole writes to the temporary path, syncs, and renames.
func writeWhole(source io.Reader, temporary, target string) error {
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, source); err != nil {
		file.Close()
		return err
	}
	if err := file.Sync(); err != nil {
		file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(temporary, target)
}
