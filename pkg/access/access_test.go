package access_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/access"
	"github.com/auditstream/auditstream/pkg/config"
)

// The process is who the configuration says, or else who AWS's own chain finds.
func TestWhoTheProcessIs(t *testing.T) {
	folder := t.TempDir()
	secret, shared := filepath.Join(folder, "secret"), filepath.Join(folder, "credentials")
	require.NoError(t, os.WriteFile(secret, []byte("of-a-file\n"), 0o600))
	require.NoError(t, os.WriteFile(shared, []byte("[default]\naws_access_key_id = shared\naws_secret_access_key = of-the-shared-file\n"), 0o600))
	chain := map[string]string{"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": filepath.Join(folder, "none")}
	for name, test := range map[string]struct {
		environ           map[string]string
		cfg               config.S3
		key, secret, more string
	}{
		"static":                  {nil, config.S3{AccessKeyID: "a", SecretAccessKey: "b", SessionToken: "c"}, "a", "b", "c"},
		"static, of a file":       {nil, config.S3{AccessKeyID: "a", SecretAccessKeyFile: secret}, "a", "of-a-file", ""},
		"static before the chain": {map[string]string{"AWS_ACCESS_KEY_ID": "e", "AWS_SECRET_ACCESS_KEY": "f"}, config.S3{AccessKeyID: "a", SecretAccessKey: "b"}, "a", "b", ""},
		"the chain's environment": {map[string]string{"AWS_ACCESS_KEY_ID": "e", "AWS_SECRET_ACCESS_KEY": "f", "AWS_SESSION_TOKEN": "g"}, config.S3{}, "e", "f", "g"},
		"the chain's file":        {map[string]string{"AWS_SHARED_CREDENTIALS_FILE": shared}, config.S3{}, "shared", "of-the-shared-file", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"} {
				t.Setenv(variable, "")
			}
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(folder, "none"))
			for _, variables := range []map[string]string{chain, test.environ} {
				for variable, value := range variables {
					t.Setenv(variable, value)
				}
			}
			test.cfg.Region = "eu-central-1"
			identities, err := access.New(t.Context(), test.cfg, time.Second)
			require.NoError(t, err)
			keys, err := identities.Config(config.Role{}, "").Credentials.Retrieve(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{test.key, test.secret, test.more}, []string{keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken})
		})
	}
}

func TestARegionIsNeededOfAWSOnly(t *testing.T) {
	for _, variable := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		t.Setenv(variable, "")
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	keys := config.S3{AccessKeyID: "a", SecretAccessKey: "b"}
	_, err := access.New(t.Context(), keys, time.Second)
	require.ErrorContains(t, err, "s3.region must be set")
	keys.Endpoint = "http://minio:9000"
	identities, err := access.New(t.Context(), keys, time.Second)
	require.NoError(t, err)
	require.Equal(t, "us-east-1", identities.Config(config.Role{}, "").Region)
	require.Equal(t, "eu-west-1", identities.Config(config.Role{}, "eu-west-1").Region)
}
