package config

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// No two keys share a variable, and none hides behind one that isn't a key.
func TestVariablesAreUnambiguous(t *testing.T) {
	taken := map[string]string{}
	for _, f := range fields(reflect.TypeFor[Config](), "") {
		require.NotContains(t, f.path, "..", "a field has no koanf tag")
		for _, name := range variableNames(f.path) {
			require.Empty(t, taken[name], "%s is a variable of %s", name, f.path)
			require.NotContains(t, otherVariables, name)
			require.False(t, serviceVariable.MatchString(name), name)
			taken[name] = f.path
		}
	}
	require.Equal(t, "clickhouse.passwordFile", taken["AUDITSTREAM_CLICKHOUSE_PASSWORD_FILE"])
	require.Equal(t, "clickhouse.passwordFile", taken["AUDITSTREAM_CLICKHOUSE_PASSWORDFILE"])
	require.Equal(t, "kafka.sasl.roleARN", taken["AUDITSTREAM_KAFKA_SASL_ROLE_ARN"])
	require.Equal(t, "s3.accessKeyID", taken["AUDITSTREAM_S3_ACCESS_KEY_ID"])
}

func TestNearest(t *testing.T) {
	candidates := []string{"brokers", "group", "transactionTimeout"}
	require.Equal(t, "brokers", nearest("broker", candidates))
	require.Equal(t, "group", nearest("Group", candidates))
	require.Equal(t, "transactionTimeout", nearest("transaction_timeout", candidates))
	require.Empty(t, nearest("colour", candidates))
	require.Empty(t, nearest("x", candidates))
}
