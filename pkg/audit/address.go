package audit

import (
	"net/netip"
	"strings"
)

// clientAddress chooses the client among an event's source addresses. Only the
// last one is what the API server saw itself; those before it come from
// X-Forwarded-For, which anybody can send. So: from the right, the first that
// is no trusted proxy; when all are, the leftmost.
func clientAddress(sourceIPs []string, trusted []netip.Prefix) (netip.Addr, bool) {
	var last netip.Addr
	for i := len(sourceIPs) - 1; i >= 0; i-- {
		addr, ok := parseAddress(sourceIPs[i])
		if !ok {
			continue
		}
		if !within(addr, trusted) {
			return addr, true
		}
		last = addr
	}
	return last, last.IsValid()
}

func within(addr netip.Addr, prefixes []netip.Prefix) bool {
	for _, prefix := range prefixes {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// parseAddress reads an address with or without port, brackets and zone, and
// brings IPv4-mapped forms to IPv4.
func parseAddress(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	if len(text) > 1 && text[0] == '[' {
		end := strings.IndexByte(text, ']')
		if end < 0 || (end+1 < len(text) && !isPort(text[end+1:])) {
			return netip.Addr{}, false
		}
		text = text[1:end]
	} else if colon := strings.IndexByte(text, ':'); colon >= 0 && strings.LastIndexByte(text, ':') == colon {
		// One colon cannot be IPv6: it comes before a port.
		if !isPort(text[colon:]) {
			return netip.Addr{}, false
		}
		text = text[:colon]
	}
	if zone := strings.IndexByte(text, '%'); zone >= 0 {
		text = text[:zone]
	}
	if !looksLikeAddress(text) {
		return netip.Addr{}, false // spares the error that ParseAddr would build
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}

func isPort(text string) bool {
	if len(text) < 2 || len(text) > 6 || text[0] != ':' {
		return false
	}
	_, ok := digits(text[1:])
	return ok
}

func looksLikeAddress(text string) bool {
	if len(text) < 2 || len(text) > 45 {
		return false
	}
	for i := range len(text) {
		if c := text[i]; unhex(c) < 0 && c != '.' && c != ':' {
			return false
		}
	}
	return true
}
