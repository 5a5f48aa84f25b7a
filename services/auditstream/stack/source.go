package stack

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/config"
)

// SourceType is what the column sourceType holds.
const SourceType = "kubernetes-audit"

// AuditSource is what the normalizer needs to know of a configured source.
func AuditSource(cfg *config.Source) (*audit.Source, error) {
	source := &audit.Source{
		WorkspaceID: cfg.Workspace, ID: cfg.ID, Type: SourceType, TTLDays: cfg.TTLDays, EventKeys: cfg.EventKeys,
	}
	// In one order, so that the same line always gives the same bytes.
	for _, key := range slices.Sorted(maps.Keys(cfg.Tags)) {
		source.Tags.Set(key, cfg.Tags[key])
	}
	var err error
	if cfg.APIServerAddress != "" {
		if source.APIServerIP, err = netip.ParseAddr(cfg.APIServerAddress); err != nil {
			return nil, fmt.Errorf("source %s: apiServerAddress: %w", cfg.ID, err)
		}
	}
	for _, network := range cfg.TrustedProxies {
		prefix, err := netip.ParsePrefix(network)
		if err != nil {
			return nil, fmt.Errorf("source %s: trustedProxies: %w", cfg.ID, err)
		}
		source.TrustedProxies = append(source.TrustedProxies, prefix)
	}
	return source, nil
}
