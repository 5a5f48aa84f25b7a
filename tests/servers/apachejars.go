package servers

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

//go:embed apachekafka/pom.xml
var kafkaPOM []byte

// ErrNoJava is why Apache Kafka can't be had here.
var ErrNoJava = errors.New("Apache Kafka needs java (17 or newer) and mvn on PATH")

// kafkaJars returns the folder with the broker's jars. Maven fetches them once
// per version of the pom into the user's cache folder.
func kafkaJars(ctx context.Context) (string, error) {
	for _, tool := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", fmt.Errorf("%w: %w", ErrNoJava, err)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder: %w", err)
	}
	hash := sha256.Sum256(kafkaPOM)
	folder := filepath.Join(cache, "auditstream", "apachekafka", hex.EncodeToString(hash[:8]))
	jars := filepath.Join(folder, "jars")
	if _, err := os.Stat(jars); err == nil {
		return jars, nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("create cache folder: %w", err)
	}
	lock := flock.New(filepath.Join(folder, "lock"))
	if _, err := lock.TryLockContext(ctx, 200*time.Millisecond); err != nil {
		return "", fmt.Errorf("wait for the lock of %s: %w", folder, err)
	}
	defer lock.Unlock()
	if _, err := os.Stat(jars); err == nil { // fetched by whom we waited for
		return jars, nil
	}

	partial := filepath.Join(folder, "partial")
	if err := os.RemoveAll(partial); err != nil {
		return "", fmt.Errorf("remove leftover: %w", err)
	}
	pom := filepath.Join(folder, "pom.xml")
	if err := os.WriteFile(pom, kafkaPOM, 0o644); err != nil {
		return "", fmt.Errorf("write pom: %w", err)
	}
	command := exec.CommandContext(ctx, "mvn", "-B", "-q", "-ntp", "-f", pom,
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+partial)
	if said, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetch the jars of Apache Kafka with mvn: %w\n%s", err, said)
	}
	if err := os.Rename(partial, jars); err != nil {
		return "", fmt.Errorf("keep the jars: %w", err)
	}
	return jars, nil
}
