package servers

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	folder, err := cacheFolder(ctx, "apachekafka", kafkaPOM, "jars", func(folder string) error {
		return fetchKafkaJars(ctx, folder)
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(folder, "jars"), nil
}

func fetchKafkaJars(ctx context.Context, folder string) error {
	partial := filepath.Join(folder, "partial")
	if err := os.RemoveAll(partial); err != nil {
		return fmt.Errorf("remove leftover: %w", err)
	}
	pom := filepath.Join(folder, "pom.xml")
	if err := os.WriteFile(pom, kafkaPOM, 0o644); err != nil {
		return fmt.Errorf("write pom: %w", err)
	}
	command := exec.CommandContext(ctx, "mvn", "-B", "-q", "-ntp", "-f", pom,
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+partial)
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("fetch the jars of Apache Kafka with mvn: %w\n%s", err, said)
	}
	if err := os.Rename(partial, filepath.Join(folder, "jars")); err != nil {
		return fmt.Errorf("keep the jars: %w", err)
	}
	return nil
}
