//go:build !noembedded

package embedded

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
)

const (
	s3Connections = 1024
	s3Requests    = 512
	// s3Concurrency bounds the file-system calls in flight, and so the threads.
	s3Concurrency = 64
	s3Parts       = 10_000 // of one multipart upload, as S3 has it

	// s3ShutdownWait is how long requests under way may take at the end.
	s3ShutdownWait = 2 * time.Second
)

// runS3 serves until standard input, the pipe that the parent holds, ends.
func runS3(order s3Order) error {
	if err := (meta.XattrMeta{}).Test(order.Data); err != nil {
		return fmt.Errorf("%s: the file system has no extended attributes, which ETags are kept in: %w", order.Data, err)
	}
	backend, err := posix.New(order.Data, meta.XattrMeta{}, posix.PosixOpts{Concurrency: s3Concurrency})
	if err != nil {
		return fmt.Errorf("open %s: %w", order.Data, err)
	}
	defer backend.Shutdown()

	root := auth.Account{Access: order.AccessKeyID, Secret: order.SecretAccessKey, Role: auth.RoleAdmin}
	server, err := s3api.New(backend,
		middlewares.RootUserConfig{Access: root.Access, Secret: root.Secret}, order.Region,
		auth.NewIAMServiceSingle(root), nil, nil, nil, nil,
		s3api.WithQuiet(), s3api.WithKeepAlive(), s3api.WithHealth(s3HealthPath),
		s3api.WithConcurrencyLimiter(s3Connections, s3Requests), s3api.WithMpMaxParts(s3Parts))
	if err != nil {
		return fmt.Errorf("set up S3 server: %w", err)
	}

	served := make(chan error, 1)
	go func() { served <- server.ServeMultiPort([]string{order.Address}) }()
	parentGone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(parentGone)
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve S3: %w", err)
	case <-parentGone:
	}
	// It waits for connections that clients keep open without a request, too. An
	// object is there when it was answered for, so nothing is lost by not waiting.
	ended := make(chan error, 1)
	go func() { ended <- server.ShutDown() }()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("shut down S3 server: %w", err)
		}
	case <-time.After(s3ShutdownWait):
	}
	return nil
}
