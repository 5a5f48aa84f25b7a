package kafka

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/twmb/franz-go/pkg/sasl"
	saslaws "github.com/twmb/franz-go/pkg/sasl/aws"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/auditstream/auditstream/pkg/config"
)

// tokenTimeout bounds how long a broker connection waits for a token.
const tokenTimeout = 30 * time.Second

// newMechanism makes the SASL mechanism, nil for none. Secrets kept in files
// are read for every authentication, so that rotation needs no restart.
func newMechanism(cfg config.SASL) (sasl.Mechanism, error) {
	switch strings.ToUpper(cfg.Mechanism) {
	case "":
		return nil, nil //nolint:nilnil // no mechanism is an answer
	case "PLAIN":
		if err := needUser(cfg); err != nil {
			return nil, err
		}
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := secret(cfg.Password, cfg.PasswordFile, "password")
			return plain.Auth{User: cfg.Username, Pass: password}, err
		}), nil
	case "SCRAM-SHA-256", "SCRAM-SHA-512":
		if err := needUser(cfg); err != nil {
			return nil, err
		}
		credentials := func(context.Context) (scram.Auth, error) {
			password, err := secret(cfg.Password, cfg.PasswordFile, "password")
			return scram.Auth{User: cfg.Username, Pass: password}, err
		}
		if strings.EqualFold(cfg.Mechanism, "SCRAM-SHA-256") {
			return scram.Sha256(credentials), nil
		}
		return scram.Sha512(credentials), nil
	case "OAUTHBEARER":
		return newOAuth(cfg)
	case "AWS_MSK_IAM":
		return newMSK(cfg), nil
	}
	return nil, fmt.Errorf("kafka.sasl.mechanism: %q is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, AWS_MSK_IAM",
		cfg.Mechanism)
}

func needUser(cfg config.SASL) error {
	if cfg.Username == "" {
		return errors.New("kafka.sasl.username: not set")
	}
	if _, err := secret(cfg.Password, cfg.PasswordFile, "password"); err != nil {
		return err
	}
	return nil
}

func secret(value config.Secret, file, key string) (string, error) {
	if file == "" {
		if value == "" {
			return "", fmt.Errorf("kafka.sasl.%s: not set", key)
		}
		return string(value), nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("kafka.sasl.%sFile: %w", key, err)
	}
	return strings.TrimSpace(string(text)), nil
}

func newOAuth(cfg config.SASL) (sasl.Mechanism, error) {
	if cfg.TokenURL == "" {
		if _, err := secret(cfg.Token, cfg.TokenFile, "token"); err != nil {
			return nil, err
		}
		return oauth.Oauth(func(context.Context) (oauth.Auth, error) {
			token, err := secret(cfg.Token, cfg.TokenFile, "token")
			return oauth.Auth{Token: token}, err
		}), nil
	}
	if cfg.ClientID == "" {
		return nil, errors.New("kafka.sasl.clientID: not set")
	}
	clientSecret, err := secret(cfg.ClientSecret, cfg.ClientSecretFile, "clientSecret")
	if err != nil {
		return nil, err
	}
	flow := &clientcredentials.Config{
		ClientID:     cfg.ClientID,
		ClientSecret: clientSecret,
		TokenURL:     cfg.TokenURL,
		Scopes:       cfg.Scopes,
	}
	// The token source outlives every single connection, so it gets a client
	// with a time limit instead of a connection's context.
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Timeout: tokenTimeout})
	source := flow.TokenSource(ctx) // keeps a token until it expires
	return oauth.Oauth(func(context.Context) (oauth.Auth, error) {
		token, err := source.Token()
		if err != nil {
			return oauth.Auth{}, fmt.Errorf("get a token from kafka.sasl.tokenURL: %w", err)
		}
		return oauth.Auth{Token: token.AccessToken}, nil
	}), nil
}

func newMSK(cfg config.SASL) sasl.Mechanism {
	var (
		mu       sync.Mutex
		provider aws.CredentialsProvider
	)
	// Loaded at the first authentication: the default chain may ask the
	// machine's metadata service.
	credentials := func(ctx context.Context) (aws.CredentialsProvider, error) {
		mu.Lock()
		defer mu.Unlock()
		if provider != nil {
			return provider, nil
		}
		var load []func(*awsconfig.LoadOptions) error
		if cfg.Region != "" {
			load = append(load, awsconfig.WithRegion(cfg.Region))
		}
		loaded, err := awsconfig.LoadDefaultConfig(ctx, load...)
		if err != nil {
			return nil, fmt.Errorf("load AWS configuration: %w", err)
		}
		provider = loaded.Credentials
		if cfg.RoleARN != "" {
			provider = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(loaded), cfg.RoleARN))
		}
		return provider, nil
	}
	return saslaws.ManagedStreamingIAM(func(ctx context.Context) (saslaws.Auth, error) {
		provider, err := credentials(ctx)
		if err != nil {
			return saslaws.Auth{}, err
		}
		found, err := provider.Retrieve(ctx)
		if err != nil {
			return saslaws.Auth{}, fmt.Errorf("get AWS credentials for kafka.sasl: %w", err)
		}
		return saslaws.Auth{
			AccessKey:    found.AccessKeyID,
			SecretKey:    found.SecretAccessKey,
			SessionToken: found.SessionToken,
		}, nil
	})
}
