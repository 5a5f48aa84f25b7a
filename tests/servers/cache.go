package servers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"

	"github.com/auditstream/auditstream/pkg/cachefolder"
)

// cacheFolder returns a folder of the user's cache for what a server needs,
// one for each version of key. complete, a file or folder in it that fill makes
// last, tells that it is done.
func cacheFolder(ctx context.Context, server string, key []byte, complete string, fill func(folder string) error) (string, error) {
	hash := sha256.Sum256(key)
	folder, err := cachefolder.Of(server, hex.EncodeToString(hash[:8]))
	if err != nil {
		return "", err
	}
	return folder, cachefolder.Fill(ctx, folder, func() bool {
		_, err := os.Stat(filepath.Join(folder, complete))
		return err == nil
	}, func() error { return fill(folder) })
}
