package servers

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/embedded"
)

const kafkaVariable = "AUDITSTREAM_TEST_KAFKA"

// Kafka returns the addresses of a broker: the environment's, or one started
// for this test alone.
func Kafka(t testing.TB) []string {
	t.Helper()
	if addresses := namedKafka(); addresses != nil {
		return addresses
	}
	return EmbeddedKafka(t, "").Addresses()
}

// EmbeddedKafka starts a broker for this test alone, for tests that inject
// faults into it or restart it. Without a directory its data is in memory.
func EmbeddedKafka(t testing.TB, directory string) *embedded.Kafka {
	t.Helper()
	kafka, err := embedded.StartKafka(t.Context(), embedded.KafkaOptions{Directory: directory, Log: log})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, kafka.Close()) })
	return kafka
}

// EachKafka runs a test against the embedded broker and against Apache Kafka,
// or only against the one that the environment names.
func EachKafka(t *testing.T, test func(t *testing.T, brokers []string)) {
	t.Helper()
	if addresses := namedKafka(); addresses != nil {
		t.Run("named", func(t *testing.T) { test(t, addresses) })
		return
	}
	t.Run("kfake", func(t *testing.T) { test(t, EmbeddedKafka(t, "").Addresses()) })
	t.Run("apache", func(t *testing.T) { test(t, ApacheKafka(t).Addresses()) })
}

func namedKafka() []string {
	var addresses []string
	for _, address := range strings.Split(os.Getenv(kafkaVariable), ",") {
		if address = strings.TrimSpace(address); address != "" {
			addresses = append(addresses, address)
		}
	}
	return addresses
}
