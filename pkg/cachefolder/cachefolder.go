// Package cachefolder keeps what is fetched once and used by many processes: the
// ClickHouse engine, and the servers that tests run against.
package cachefolder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// lockInterval is how often a process that waits for another looks.
const lockInterval = 200 * time.Millisecond

// Of is the folder of the user's cache for the named thing. It need not be there.
func Of(names ...string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder: %w", err)
	}
	return filepath.Join(append([]string{cache, "auditstream"}, names...)...), nil
}

// Fill sees to it that folder holds what it is for, which complete tells. It
// makes the folder and calls fill when it does not, once, however many processes
// ask at a time: the others wait. What fill finds in the folder is of a process
// that died.
func Fill(ctx context.Context, folder string, complete func() bool, fill func() error) error {
	if complete() {
		return nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("create cache folder: %w", err)
	}
	lock := flock.New(filepath.Join(folder, "lock"))
	if _, err := lock.TryLockContext(ctx, lockInterval); err != nil {
		return fmt.Errorf("wait for the lock of %s: %w", folder, err)
	}
	defer lock.Unlock()
	if complete() { // filled by whom we waited for
		return nil
	}
	return fill()
}
