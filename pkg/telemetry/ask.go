package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/auditstream/auditstream/pkg/config"
)

// ErrNotWell is an admin server that answers that something is not well.
var ErrNotWell = errors.New("not well")

// longestAnswer is more than any list of components that are not well.
const longestAnswer = 64 << 10

// Ask asks the admin server at the address, which may be one to listen on, for a
// path, and returns what it said. An answer other than 200 is an ErrNotWell.
func Ask(ctx context.Context, cfg config.Admin, path string) (string, error) {
	host, port, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return "", fmt.Errorf("ask the admin server: address: %w", err)
	}
	// Who listens everywhere is found here. The name localhost would need a file
	// that an image of nothing but a binary may lack.
	switch ip := net.ParseIP(host); {
	case host == "" || ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip.Equal(net.IPv6unspecified):
		host = "::1"
	}
	url := "http://" + net.JoinHostPort(host, port) + path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("ask the admin server: %w", err)
	}
	// One question, never by way of a proxy.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask the admin server: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	body, err := io.ReadAll(io.LimitReader(response.Body, longestAnswer))
	if err != nil {
		return "", fmt.Errorf("ask the admin server: read the answer of %s: %w", url, err)
	}
	said := strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%w: %s says: %s", ErrNotWell, url, said)
	}
	return said, nil
}
