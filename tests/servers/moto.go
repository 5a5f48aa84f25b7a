package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/require"
)

// MotoAccount is the account whose resources everyone of a Moto sees.
const MotoAccount = "123456789012"

const motoRegion = "eu-central-1"

// MotoServer emulates S3, SQS, SNS, STS and IAM, the fan-out between them
// included. Any keys will do, unless it was told to enforce policies.
type MotoServer struct {
	Endpoint string
	Region   string
}

var sharedMoto = sync.OnceValues(func() (*MotoServer, error) {
	ctx, cancel := startContext()
	defer cancel()
	server, end, err := startMoto(ctx)
	if err == nil {
		atEnd.add(end)
	}
	return server, err
})

const motoVariable = "AUDITSTREAM_TEST_MOTO"

// Moto returns the emulator that the environment names, or that of this test
// process.
func Moto(t testing.TB) *MotoServer {
	t.Helper()
	if endpoint := os.Getenv(motoVariable); endpoint != "" {
		return &MotoServer{Endpoint: endpoint, Region: motoRegion}
	}
	server, err := sharedMoto()
	if errors.Is(err, errNoPython) {
		unavailable(t, "%v", err)
	}
	require.NoError(t, err)
	return server
}

// OwnMoto starts an emulator for this test alone.
func OwnMoto(t testing.TB) *MotoServer {
	t.Helper()
	ctx, cancel := startContext()
	defer cancel()
	server, end, err := startMoto(ctx)
	if errors.Is(err, errNoPython) {
		unavailable(t, "%v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, end()) })
	return server
}

func startMoto(ctx context.Context) (*MotoServer, func() error, error) {
	python, err := motoPython(ctx)
	if err != nil {
		return nil, nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("choose a port: %w", err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, nil, fmt.Errorf("choose a port: %w", err)
	}
	folder, err := os.MkdirTemp("", "auditstream-test-moto-")
	if err != nil {
		return nil, nil, fmt.Errorf("create folder for moto: %w", err)
	}
	host, port, _ := strings.Cut(address, ":")
	process, err := startProgram(filepath.Join(folder, "log"), python, "-c",
		"import sys; from moto.server import main; main(sys.argv[1:])", "-H", host, "-p", port)
	if err != nil {
		return nil, nil, fmt.Errorf("start moto: %w", err)
	}
	end := func() error { return errors.Join(process.kill(address), os.RemoveAll(folder)) }
	server := &MotoServer{Endpoint: "http://" + address, Region: motoRegion}
	err = process.waitReady(ctx, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.Endpoint+"/moto-api/data.json", http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		return response.Body.Close()
	})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start moto: %w", err), end())
	}
	return server, end, nil
}

// EnforcePolicies makes the emulator refuse, from now on, what the policies of
// the caller don't allow.
func (m *MotoServer) EnforcePolicies(t testing.TB) {
	t.Helper()
	response, err := http.Post(m.Endpoint+"/moto-api/reset-auth", "text/plain", strings.NewReader("0"))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
}

// Config is for clients in a region ("": the server's own).
func (m *MotoServer) Config(region string) aws.Config {
	if region == "" {
		region = m.Region
	}
	return aws.Config{
		Region: region, BaseEndpoint: aws.String(m.Endpoint),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	}
}

// S3 is a client of the emulator in a region ("": the server's own).
func (m *MotoServer) S3(region string) *s3.Client {
	return s3.NewFromConfig(m.Config(region), func(o *s3.Options) { o.UsePathStyle = true })
}

// SQS is a client of the emulator in a region.
func (m *MotoServer) SQS(region string) *sqs.Client { return sqs.NewFromConfig(m.Config(region)) }

// SNS is a client of the emulator in a region.
func (m *MotoServer) SNS(region string) *sns.Client { return sns.NewFromConfig(m.Config(region)) }

// STS is a client of the emulator.
func (m *MotoServer) STS() *sts.Client { return sts.NewFromConfig(m.Config("")) }
