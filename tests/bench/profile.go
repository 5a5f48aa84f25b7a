package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
)

// profileCPU writes a CPU profile of this process, when one is wanted, until
// the returned function is called.
func profileCPU(o options, name string) (stop func(), err error) {
	if o.profile == "" {
		return func() {}, nil
	}
	file, err := os.Create(filepath.Join(o.profile, name+".pprof"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close() // a profile that is cut short says so itself
	}, nil
}
