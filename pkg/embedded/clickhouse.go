package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// binaryVariable names a clickhouse binary to run in place of the library.
const binaryVariable = "AUDITSTREAM_CLICKHOUSE_BINARY"

// portAttempts is how often a free port is chosen anew when another process
// took it between the choice and the listening.
const portAttempts = 5

// probeTimeout bounds one question whether a child answers.
const probeTimeout = 2 * time.Second

// ClickHouseOptions say where the engine keeps its data and listens. Only
// Directory is required.
type ClickHouseOptions struct {
	Directory  string // created if missing; one engine at a time
	TCPPort    int    // native protocol, on 127.0.0.1; 0 takes a free port
	HTTPPort   int    // the same for HTTP
	ConfigFile string // merged over the configuration written here
	Log        *slog.Logger
	OnRestart  func() // after each restart, when the engine answers again
}

// ClickHouse is a running engine. It is restarted on the same ports when it
// dies. User "default", no password, database "default".
type ClickHouse struct {
	tcp, http  int
	supervisor *supervisor
}

// StartClickHouse starts the engine and returns when it answers on the native
// protocol. The clickhouse binary that AUDITSTREAM_CLICKHOUSE_BINARY names or
// PATH holds is used; without one the library is fetched (see FetchEngine).
// ctx bounds the start only.
func StartClickHouse(ctx context.Context, options ClickHouseOptions) (*ClickHouse, error) {
	log := orDiscard(options.Log)
	if options.Directory == "" {
		return nil, errors.New("start ClickHouse: no directory given")
	}
	directory, err := filepath.Abs(options.Directory)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	options.Directory = directory

	binary, err := clickHouseBinary()
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	library := ""
	if binary == "" {
		if library, err = FetchEngine(ctx, log); err != nil {
			return nil, fmt.Errorf("start ClickHouse: %w", err)
		}
	}

	free := options.TCPPort == 0 || options.HTTPPort == 0
	for attempt := 1; ; attempt++ {
		c, err := startClickHouse(ctx, options, binary, library, log)
		if err == nil {
			return c, nil
		}
		if !free || !errors.Is(err, ErrAddressInUse) || attempt == portAttempts {
			return nil, err
		}
	}
}

func startClickHouse(ctx context.Context, options ClickHouseOptions, binary, library string, log *slog.Logger) (*ClickHouse, error) {
	tcp, err := portOrFree(options.TCPPort)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	http, err := portOrFree(options.HTTPPort)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	for _, port := range []int{tcp, http} {
		if err := requireFreeAddress(localAddress(port)); err != nil {
			return nil, fmt.Errorf("start ClickHouse: %w", err)
		}
	}
	configFile, err := writeEngineConfig(options, tcp, http, binary != "")
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}

	order := childOrder{}
	title := fmt.Sprintf("clickhouse-engine tcp=%d http=%d %s", tcp, http, options.Directory)
	if binary != "" {
		order.Server = &serverOrder{Binary: binary, Arguments: []string{"server", "--config-file=" + configFile}}
	} else {
		order.Engine = &engineOrder{Library: library, Arguments: []string{
			"clickhouse", "--config-file=" + configFile, "--path=" + dataFolder(options.Directory), "--query=" + serveUntilInputEnds,
		}}
	}

	c := &ClickHouse{tcp: tcp, http: http}
	c.supervisor = &supervisor{
		name:      "ClickHouse engine",
		spawn:     func() (*process, error) { return spawn(order, title) },
		probe:     func(ctx context.Context) error { return c.probe(ctx, dataFolder(options.Directory)) },
		onRestart: options.OnRestart,
		log:       log,
	}
	started := time.Now()
	if err := superviseChild(ctx, c.supervisor); err != nil {
		return nil, err
	}
	log.Info("ClickHouse engine started", "address", c.Address(), "http", c.HTTPAddress(),
		"pid", c.PID(), "took", time.Since(started).Round(time.Millisecond))
	return c, nil
}

// serveUntilInputEnds opens the ports and then reads standard input, the pipe
// that the parent holds, as a table. When the pipe ends so does the query, and
// with it the engine, in good order.
const serveUntilInputEnds = "SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; " +
	"SELECT count() FROM file('-', 'LineAsString', 'line String')"

// Address is the native protocol's, as "127.0.0.1:port".
func (c *ClickHouse) Address() string { return localAddress(c.tcp) }

// HTTPAddress is the HTTP interface's, as "127.0.0.1:port".
func (c *ClickHouse) HTTPAddress() string { return localAddress(c.http) }

// PID is the engine's process, 0 while it is being restarted.
func (c *ClickHouse) PID() int { return c.supervisor.pid() }

// Restarts counts how often the engine died and came back.
func (c *ClickHouse) Restarts() int { return c.supervisor.restartCount() }

// Kill ends the engine with SIGKILL and returns when it is gone. It is then
// restarted; WaitReady waits for that.
func (c *ClickHouse) Kill() error { return c.supervisor.kill() }

// WaitReady returns when the engine runs and answers.
func (c *ClickHouse) WaitReady(ctx context.Context) error { return c.supervisor.waitReady(ctx) }

// Close ends the engine in good order, by force after a bounded time.
func (c *ClickHouse) Close() error { return c.supervisor.close() }

// probe asks over the native protocol whose engine answers: an open port may
// still refuse queries, and may be another engine's.
func (c *ClickHouse) probe(ctx context.Context, path string) (err error) {
	// The pool's clean-up runs once per ConnMaxLifetime and Close can block on
	// it for ever, so the lifetime must stay far above that of a probe.
	connection, err := clickhouse.Open(&clickhouse.Options{
		Addr:        []string{c.Address()},
		DialTimeout: probeTimeout,
		ReadTimeout: probeTimeout,
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", c.Address(), err)
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	var answered string
	const query = "SELECT value FROM system.server_settings WHERE name = 'path'"
	if err := connection.QueryRow(ctx, query).Scan(&answered); err != nil {
		return fmt.Errorf("query %s: %w", c.Address(), err)
	}
	if filepath.Clean(answered) != filepath.Clean(path) {
		return fmt.Errorf("the engine at %s is another one, of %s: %w", c.Address(), answered, ErrAddressInUse)
	}
	return nil
}

// clickHouseBinary is the binary to use, empty for the library.
func clickHouseBinary() (string, error) {
	if named := os.Getenv(binaryVariable); named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return "", fmt.Errorf("%s: %w", binaryVariable, err)
		}
		return path, nil
	}
	// A named library is a wish for the library.
	if os.Getenv(libraryVariable) != "" {
		return "", nil
	}
	path, err := exec.LookPath("clickhouse")
	if err != nil {
		return "", nil
	}
	return path, nil
}

func dataFolder(directory string) string { return filepath.Join(directory, "data") }

// writeEngineConfig writes the engine's configuration and returns its path. A
// configuration of the caller's own goes beside it, where ClickHouse merges it
// over this one.
func writeEngineConfig(options ClickHouseOptions, tcp, http int, server bool) (string, error) {
	folder := filepath.Join(options.Directory, "config")
	merged := filepath.Join(folder, "config.d")
	// Left over from an earlier start with another configuration.
	if err := os.RemoveAll(merged); err != nil {
		return "", fmt.Errorf("clear %s: %w", merged, err)
	}
	for _, path := range []string{merged, dataFolder(options.Directory)} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return "", fmt.Errorf("create folder: %w", err)
		}
	}
	if options.ConfigFile != "" {
		if err := copyFile(options.ConfigFile, filepath.Join(merged, "own"+filepath.Ext(options.ConfigFile))); err != nil {
			return "", fmt.Errorf("configuration %s: %w", options.ConfigFile, err)
		}
	}
	path := filepath.Join(folder, "config.xml")
	if err := os.WriteFile(path, engineConfig(options.Directory, tcp, http, server), 0o644); err != nil {
		return "", fmt.Errorf("write configuration: %w", err)
	}
	return path, nil
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		target.Close()
		return err
	}
	return target.Close()
}

func localAddress(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// requireFreeAddress finds out before a child is started whether its address
// is taken: whoever answers there must not be mistaken for the child.
func requireFreeAddress(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return explainListen(err, address)
	}
	return listener.Close()
}

// portOrFree chooses a port that is free now when none is given. It may be
// taken again before the child listens; the caller then chooses another.
func portOrFree(port int) (int, error) {
	if port != 0 {
		return port, nil
	}
	listener, err := net.Listen("tcp", localAddress(0))
	if err != nil {
		return 0, fmt.Errorf("choose a port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
