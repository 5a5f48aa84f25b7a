package telemetry

import (
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Build says what this binary was made from, as far as the Go tool recorded it.
type Build struct {
	Version  string // module version, "(devel)" for a work tree
	Revision string // commit, with "+changes" when the tree had some
	Time     string // of the commit
	Go       string
	Platform string
}

// ReadBuild reads what the Go tool recorded in the binary.
func ReadBuild() Build {
	build := Build{
		Version:  "(devel)",
		Revision: "unknown",
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return build
	}
	if info.Main.Version != "" {
		build.Version = info.Main.Version
	}
	modified := false
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			build.Revision = setting.Value
		case "vcs.time":
			build.Time = setting.Value
		case "vcs.modified":
			modified = setting.Value == "true"
		}
	}
	if modified {
		build.Revision += "+changes"
	}
	return build
}

// NewRegistry is an empty registry but for what every process has: build
// information, the Go runtime and the process itself.
func NewRegistry() *prometheus.Registry {
	build := ReadBuild()
	info := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "auditstream_build_info",
		Help: "Always 1; the labels say what the binary was made from.",
		ConstLabels: prometheus.Labels{
			"version":   build.Version,
			"revision":  build.Revision,
			"goversion": build.Go,
		},
	}, func() float64 { return 1 })

	registry := prometheus.NewRegistry()
	registry.MustRegister(
		info,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry
}
