package servers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// cacheFolder returns a folder of the user's cache for what a server needs,
// one for each version of key. fill is called once for each, however many
// processes ask at a time; complete, a file or folder in it that fill makes
// last, tells that it is done.
func cacheFolder(ctx context.Context, server string, key []byte, complete string, fill func(folder string) error) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder: %w", err)
	}
	hash := sha256.Sum256(key)
	folder := filepath.Join(cache, "auditstream", server, hex.EncodeToString(hash[:8]))
	complete = filepath.Join(folder, complete)
	if _, err := os.Stat(complete); err == nil {
		return folder, nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("create cache folder: %w", err)
	}
	lock := flock.New(filepath.Join(folder, "lock"))
	if _, err := lock.TryLockContext(ctx, 200*time.Millisecond); err != nil {
		return "", fmt.Errorf("wait for the lock of %s: %w", folder, err)
	}
	defer lock.Unlock()
	if _, err := os.Stat(complete); err == nil { // made by whom we waited for
		return folder, nil
	}
	return folder, fill(folder)
}
