//go:build !noembedded

package embedded

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// runEngine loads the ClickHouse library into this process and serves until
// its arguments' last query ends.
func runEngine(order engineOrder) error {
	// The engine keeps per-thread state for the thread that called it.
	runtime.LockOSThread()
	library, err := purego.Dlopen(order.Library, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return fmt.Errorf("load %s: %w", order.Library, err)
	}
	query, err := purego.Dlsym(library, "chdb_query_cmdline")
	if err != nil {
		return fmt.Errorf("%s: %w", order.Library, err)
	}
	resultError, err := purego.Dlsym(library, "chdb_result_error")
	if err != nil {
		return fmt.Errorf("%s: %w", order.Library, err)
	}
	handleSignals, err := purego.Dlsym(library, "chdb_set_signal_handlers_enabled")
	if err != nil {
		return fmt.Errorf("%s: %w", order.Library, err)
	}

	// The engine's own handler of a fault sleeps for minutes before it lets
	// the process end, and Go's would take the fault for one of Go code. The
	// parent wants a crash to be the end, at once.
	purego.SyscallN(handleSignals, 0)

	arguments := make([]*byte, len(order.Arguments)+1) // ends with a null pointer
	for i, argument := range order.Arguments {
		arguments[i] = &append([]byte(argument), 0)[0]
	}
	var run func(count int32, arguments unsafe.Pointer) uintptr
	purego.RegisterFunc(&run, query)
	result := run(int32(len(order.Arguments)), unsafe.Pointer(&arguments[0]))
	runtime.KeepAlive(arguments)

	if result == 0 {
		return errors.New("the ClickHouse library gave no result")
	}
	var errorOf func(result uintptr) string
	purego.RegisterFunc(&errorOf, resultError)
	if text := errorOf(result); text != "" {
		return errors.New(text)
	}
	return nil
}
