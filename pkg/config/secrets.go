package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxSecretFile is more than any password, key or token.
const maxSecretFile = 1 << 20

// readSecrets takes secrets from the files that hold them. A key given in both
// ways is a contradiction, and nothing says which is meant.
func (c *checker) readSecrets(cfg *Config) {
	for _, secret := range []struct {
		key  string
		into *Secret
		path *string
	}{
		{"kafka.sasl.password", &cfg.Kafka.SASL.Password, &cfg.Kafka.SASL.PasswordFile},
		{"kafka.sasl.clientSecret", &cfg.Kafka.SASL.ClientSecret, &cfg.Kafka.SASL.ClientSecretFile},
		{"s3.secretAccessKey", &cfg.S3.SecretAccessKey, &cfg.S3.SecretAccessKeyFile},
		{"clickhouse.password", &cfg.ClickHouse.Password, &cfg.ClickHouse.PasswordFile},
	} {
		if *secret.path == "" {
			continue
		}
		if *secret.into != "" {
			c.problem(secret.key+"File", "%s is set too; keep one of them", secret.key)
			continue
		}
		text, ok := c.readFile(secret.key+"File", *secret.path)
		if !ok {
			continue
		}
		*secret.into = Secret(strings.TrimSpace(string(text)))
		if *secret.into == "" {
			c.problem(secret.key+"File", "%s is empty", *secret.path)
		}
		// Read once: from here on the value stands for itself.
		*secret.path = ""
	}
}

// readFile reads a file that key names, or reports why it can't be.
func (c *checker) readFile(key, path string) ([]byte, bool) {
	text, err := readBounded(path)
	if err == nil {
		return text, true
	}
	c.problem(key, "%s can't be read: %s", path, cause(err))
	return nil, false
}

// cause is err without the path, which the problem already names.
func cause(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a pipe would hold up the start
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxSecretFile {
		return nil, errors.New("larger than 1 MiB")
	}
	return text, nil
}
