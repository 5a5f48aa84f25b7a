package kafka_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/kafka"
)

// certificates writes ca.pem, cert.pem and key.pem: one self-signed identity
// for both ends.
func certificates(t *testing.T) string {
	t.Helper()
	directory := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"kafka.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write := func(name, kind string, content []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(directory, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600))
	}
	write("ca.pem", "CERTIFICATE", certificate)
	write("cert.pem", "CERTIFICATE", certificate)
	write("key.pem", "PRIVATE KEY", private)
	return directory
}

func ping(t *testing.T, cfg config.Kafka, log *slog.Logger) error {
	t.Helper()
	opts, err := kafka.Options(cfg, log, nil)
	require.NoError(t, err)
	client, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return client.Ping(ctx)
}

func TestSASLOverTLS(t *testing.T) {
	t.Parallel()
	directory := certificates(t)
	file := func(name string) string { return filepath.Join(directory, name) }
	serverCertificate, err := tls.LoadX509KeyPair(file("cert.pem"), file("key.pem"))
	require.NoError(t, err)
	trusted := x509.NewCertPool()
	authority, err := os.ReadFile(file("ca.pem"))
	require.NoError(t, err)
	require.True(t, trusted.AppendCertsFromPEM(authority))
	require.NoError(t, os.WriteFile(file("password"), []byte("s3cret\n"), 0o600))

	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(mechanism, "alice", "s3cret"),
				kfake.TLS(&tls.Config{
					Certificates: []tls.Certificate{serverCertificate}, ClientCAs: trusted, ClientAuth: tls.RequireAndVerifyClientCert,
				}))
			require.NoError(t, err)
			t.Cleanup(cluster.Close)
			good := config.Kafka{
				Brokers: cluster.ListenAddrs(),
				TLS: config.TLS{
					Enabled: true, CAFile: file("ca.pem"), CertFile: file("cert.pem"), KeyFile: file("key.pem"), ServerName: "kafka.test",
				},
				SASL: config.SASL{Mechanism: mechanism, Username: "alice", PasswordFile: file("password")},
			}
			var log bytes.Buffer
			logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 8}))
			require.NoError(t, ping(t, good, logger))
			for name, spoil := range map[string]func(*config.Kafka){
				"password":    func(c *config.Kafka) { c.SASL.Password, c.SASL.PasswordFile = "wr0ng", "" },
				"certificate": func(c *config.Kafka) { c.TLS.CertFile, c.TLS.KeyFile = "", "" },
				"authority":   func(c *config.Kafka) { c.TLS.CAFile = "" },
				"name":        func(c *config.Kafka) { c.TLS.ServerName = "elsewhere.test" },
			} {
				bad := good
				spoil(&bad)
				require.Error(t, ping(t, bad, logger), name)
			}
			require.NotContains(t, log.String(), "s3cret")
			require.NotContains(t, log.String(), "wr0ng")
		})
	}
}

// mechanism takes the SASL mechanism out of the options.
func mechanism(t *testing.T, cfg config.SASL) sasl.Mechanism {
	t.Helper()
	opts, err := kafka.Options(config.Kafka{Brokers: []string{"127.0.0.1:1"}, SASL: cfg}, nil, nil)
	require.NoError(t, err)
	client, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	defer client.Close()
	mechanisms, ok := client.OptValue(kgo.SASL).([]sasl.Mechanism)
	require.True(t, ok)
	require.Len(t, mechanisms, 1)
	require.Equal(t, cfg.Mechanism, mechanisms[0].Name())
	return mechanisms[0]
}

func firstMessage(t *testing.T, m sasl.Mechanism) string {
	t.Helper()
	_, message, err := m.Authenticate(t.Context(), "b-1.msk.eu-west-1.amazonaws.com:9098")
	require.NoError(t, err)
	return string(message)
}

func TestTokens(t *testing.T) {
	t.Parallel()
	t.Run("file that is renewed", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "token")
		require.NoError(t, os.WriteFile(file, []byte("first\n"), 0o600))
		m := mechanism(t, config.SASL{Mechanism: "OAUTHBEARER", TokenFile: file})
		require.Contains(t, firstMessage(t, m), "auth=Bearer first\x01")
		require.NoError(t, os.WriteFile(file, []byte("second"), 0o600))
		require.Contains(t, firstMessage(t, m), "auth=Bearer second\x01")
	})
	t.Run("client credentials", func(t *testing.T) {
		t.Parallel()
		asked := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			id, secret, _ := r.BasicAuth()
			if id != "me" || secret != "s3cret" || r.FormValue("scope") != "kafka audit" {
				http.Error(w, "no", http.StatusUnauthorized)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"access_token":"fresh","token_type":"bearer","expires_in":3600}`))
		}))
		defer server.Close()
		m := mechanism(t, config.SASL{
			Mechanism: "OAUTHBEARER", TokenURL: server.URL, ClientID: "me", ClientSecret: "s3cret", Scopes: []string{"kafka", "audit"},
		})
		require.Contains(t, firstMessage(t, m), "auth=Bearer fresh\x01")
		require.Contains(t, firstMessage(t, m), "auth=Bearer fresh\x01")
		require.Equal(t, 1, asked, "a token that is valid is asked for again")
	})
}

func TestMSK(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
	message := firstMessage(t, mechanism(t, config.SASL{Mechanism: "AWS_MSK_IAM", Region: "eu-west-1"}))
	require.Contains(t, message, "AKIATEST/")
	require.Contains(t, message, "/eu-west-1/kafka-cluster/aws4_request")
	require.NotContains(t, message, "s3cret")
}

func TestOptionsRefuse(t *testing.T) {
	t.Parallel()
	directory := certificates(t)
	for name, spoil := range map[string]func(*config.Kafka){
		"kafka.brokers":    func(c *config.Kafka) { c.Brokers = nil },
		"kafka.tls.caFile": func(c *config.Kafka) { c.TLS = config.TLS{Enabled: true, CAFile: "missing"} },
		"kafka.tls": func(c *config.Kafka) {
			c.TLS = config.TLS{Enabled: true, CertFile: filepath.Join(directory, "cert.pem")}
		},
		"kafka.sasl.mechanism": func(c *config.Kafka) { c.SASL.Mechanism = "KERBEROS" },
		"kafka.sasl.username":  func(c *config.Kafka) { c.SASL.Mechanism = "PLAIN" },
		"kafka.sasl.password":  func(c *config.Kafka) { c.SASL = config.SASL{Mechanism: "PLAIN", Username: "u"} },
		"kafka.sasl.token":     func(c *config.Kafka) { c.SASL.Mechanism = "OAUTHBEARER" },
		"kafka.sasl.clientID":  func(c *config.Kafka) { c.SASL = config.SASL{Mechanism: "OAUTHBEARER", TokenURL: "http://x"} },
		"kafka.sasl.tokenFile": func(c *config.Kafka) { c.SASL = config.SASL{Mechanism: "OAUTHBEARER", TokenFile: "missing"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config.Kafka{Brokers: []string{"x:1"}}
			spoil(&cfg)
			_, err := kafka.Options(cfg, nil, nil)
			require.ErrorContains(t, err, name)
		})
	}
}

// Several clients of one process share a registry, also from the same options.
func TestClientsShareARegistry(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	var clients []*kgo.Client
	for range 2 {
		opts, err := kafka.Options(config.Kafka{Brokers: []string{"127.0.0.1:1"}, ClientID: "same"}, nil, registry)
		require.NoError(t, err)
		for range 2 {
			client, err := kgo.NewClient(opts...)
			require.NoError(t, err)
			clients = append(clients, client)
		}
	}
	_, err := registry.Gather()
	require.NoError(t, err)
	for _, client := range clients {
		client.Close()
	}
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Empty(t, families, "metrics of closed clients")
}
