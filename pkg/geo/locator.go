package geo

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"

	"github.com/auditstream/auditstream/pkg/event"
)

// remembered bounds a Locator's memory of addresses, in each of two
// generations; an entry is a few hundred bytes.
const remembered = 4096

// Locator answers for one goroutine and remembers what it has answered: audit
// logs name the same few addresses again and again.
type Locator struct {
	databases *Databases
	of        *set // what the memory was filled from
	// Two generations instead of a list in order of use: when the young one is
	// full it becomes the old one, and what is asked again moves up.
	young, old map[netip.Addr]*place
}

// place is everything known of one address.
type place struct {
	endpoint  event.Endpoint
	anonymous string
}

// Locator makes one for the use of a single goroutine.
func (d *Databases) Locator() *Locator { return &Locator{databases: d} }

// Locate fills everything of into but IP, and returns what makes the address
// anonymous, comma-separated: vpn, tor, proxy, residential-proxy, hosting, or
// anonymous when the database says no more. The texts stay valid for ever.
// Private addresses and such are nowhere.
func (l *Locator) Locate(addr netip.Addr, into *event.Endpoint) string {
	ip := into.IP
	*into = event.Endpoint{IP: ip}
	current := l.databases.current.Load()
	if current != l.of {
		l.of, l.young, l.old = current, nil, nil
	}
	if !addr.IsValid() || current.empty() {
		return ""
	}
	addr = addr.Unmap().WithZone("")
	if !public(addr) {
		return ""
	}
	found := l.recall(addr)
	if found == nil {
		found = current.locate(addr, l.databases.metrics)
		l.remember(addr, found)
	}
	*into = found.endpoint
	into.IP = ip
	return found.anonymous
}

func (l *Locator) recall(addr netip.Addr) *place {
	if found := l.young[addr]; found != nil {
		return found
	}
	found := l.old[addr]
	if found != nil {
		l.remember(addr, found)
	}
	return found
}

func (l *Locator) remember(addr netip.Addr, found *place) {
	if l.young == nil || len(l.young) >= remembered {
		l.old, l.young = l.young, make(map[netip.Addr]*place)
	}
	l.young[addr] = found
}

func public(addr netip.Addr) bool {
	return !addr.IsPrivate() && !addr.IsLoopback() && !addr.IsLinkLocalUnicast() &&
		!addr.IsMulticast() && !addr.IsUnspecified()
}

// locate asks each database there is. One that fails on an address says
// nothing about it; the others still do.
func (s *set) locate(addr netip.Addr, metrics *metrics) *place {
	p := &place{}
	for kind, db := range s.by {
		if db == nil {
			continue
		}
		if err := p.add(db, addr); err != nil {
			metrics.failures[kind].Inc()
		}
	}
	return p
}

// add takes what is not known yet: databases come in the order of precedence.
func (p *place) add(db *database, addr netip.Addr) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("look %s up in %s: %v", addr, db.path, problem)
		}
	}()
	e := &p.endpoint
	switch db.kind {
	case enterprise:
		found, err := db.reader.Enterprise(addr)
		if err != nil {
			return err
		}
		traits := &found.Traits
		set1(&e.ASCountryCode, found.Country.ISOCode)
		p.setCity(found.City.Names.English, found.Location.Latitude, found.Location.Longitude)
		p.setNetwork(traits.AutonomousSystemNumber, traits.AutonomousSystemOrganization)
		set1(&e.ISP, traits.ISP)
		set1(&e.ConnectionType, traits.ConnectionType)
		set1(&e.UserType, traits.UserType)
	case city:
		found, err := db.reader.City(addr)
		if err != nil {
			return err
		}
		set1(&e.ASCountryCode, found.Country.ISOCode)
		p.setCity(found.City.Names.English, found.Location.Latitude, found.Location.Longitude)
	case country:
		found, err := db.reader.Country(addr)
		if err != nil {
			return err
		}
		set1(&e.ASCountryCode, found.Country.ISOCode)
	case isp:
		found, err := db.reader.ISP(addr)
		if err != nil {
			return err
		}
		p.setNetwork(found.AutonomousSystemNumber, found.AutonomousSystemOrganization)
		set1(&e.ISP, found.ISP)
	case asn:
		found, err := db.reader.ASN(addr)
		if err != nil {
			return err
		}
		p.setNetwork(found.AutonomousSystemNumber, found.AutonomousSystemOrganization)
	case connectionType:
		found, err := db.reader.ConnectionType(addr)
		if err != nil {
			return err
		}
		set1(&e.ConnectionType, found.ConnectionType)
	case anonymousPlus:
		found, err := db.reader.AnonymousPlus(addr)
		if err != nil {
			return err
		}
		p.setAnonymous(found.IsAnonymous, found.IsAnonymousVPN, found.IsTorExitNode, found.IsPublicProxy,
			found.IsResidentialProxy, found.IsHostingProvider)
	case anonymousIP:
		found, err := db.reader.AnonymousIP(addr)
		if err != nil {
			return err
		}
		p.setAnonymous(found.IsAnonymous, found.IsAnonymousVPN, found.IsTorExitNode, found.IsPublicProxy,
			found.IsResidentialProxy, found.IsHostingProvider)
	default:
		return errors.New("unknown kind of database")
	}
	return nil
}

// set1 keeps what is there. Texts are made valid: a database is no log.
func set1(into *string, value string) {
	if *into == "" {
		*into = strings.ToValidUTF8(value, "\uFFFD")
	}
}

// setCity takes the two coordinates from one database or from none.
func (p *place) setCity(name string, latitude, longitude *float64) {
	set1(&p.endpoint.City, name)
	if latitude == nil || longitude == nil || p.endpoint.Latitude != 0 || p.endpoint.Longitude != 0 {
		return
	}
	if math.IsNaN(*latitude) || math.IsNaN(*longitude) || math.IsInf(*latitude, 0) || math.IsInf(*longitude, 0) {
		return
	}
	p.endpoint.Latitude, p.endpoint.Longitude = *latitude, *longitude
}

// setNetwork takes number and name from one database.
func (p *place) setNetwork(number uint, organization string) {
	if p.endpoint.ASNumber != 0 || p.endpoint.ASOrganization != "" || number > math.MaxUint32 {
		return
	}
	p.endpoint.ASNumber = uint32(number)
	set1(&p.endpoint.ASOrganization, organization)
}

func (p *place) setAnonymous(anonymous, vpn, tor, proxy, residential, hosting bool) {
	words := []string{}
	if p.anonymous != "" && p.anonymous != "anonymous" {
		words = strings.Split(p.anonymous, ",")
	}
	has := func(word string) bool {
		for _, known := range words {
			if known == word {
				return true
			}
		}
		return false
	}
	result := make([]string, 0, 5)
	for _, flag := range []struct {
		set  bool
		word string
	}{
		{vpn, "vpn"}, {tor, "tor"}, {proxy, "proxy"}, {residential, "residential-proxy"}, {hosting, "hosting"},
	} {
		if flag.set || has(flag.word) {
			result = append(result, flag.word)
		}
	}
	switch {
	case len(result) > 0:
		p.anonymous = strings.Join(result, ",")
	case anonymous:
		p.anonymous = "anonymous"
	}
}
