package generate

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// place is a city and the carrier that serves it here. Cities and coordinates
// are real, networks are for documentation, carriers are made up.
type place struct {
	network             string
	country, name, city string
	continent           string
	latitude, longitude float64
	number              uint32 // AS numbers for documentation: 64496 to 64511, 65536 to 65551
	organization        string
}

var places = []place{
	{"192.0.2.0/27", "DE", "Germany", "Berlin", "EU", 52.5200, 13.4050, 64496, "Example Carrier Germany"},
	{"192.0.2.32/27", "PL", "Poland", "Warsaw", "EU", 52.2297, 21.0122, 64497, "Example Carrier Poland"},
	{"192.0.2.64/27", "NL", "Netherlands", "Amsterdam", "EU", 52.3676, 4.9041, 64498, "Example Broadband"},
	{"192.0.2.96/27", "SE", "Sweden", "Linköping", "EU", 58.4109, 15.6216, 64499, "Example Nordic Fibre"},
	{"192.0.2.128/27", "PT", "Portugal", "Lisbon", "EU", 38.7223, -9.1393, 64500, "Example Mobile Iberia"},
	{"192.0.2.160/27", "GB", "United Kingdom", "Manchester", "EU", 53.4808, -2.2426, 64501, "Example Carrier Britain"},
	{"192.0.2.192/26", "RO", "Romania", "Cluj-Napoca", "EU", 46.7712, 23.6236, 65536, "Example Hosting"},
	{"198.51.100.0/27", "US", "United States", "Chicago", "NA", 41.8781, -87.6298, 64502, "Example Carrier America"},
	{"198.51.100.32/27", "US", "United States", "Seattle", "NA", 47.6062, -122.3321, 64502, "Example Carrier America"},
	{"198.51.100.64/27", "CA", "Canada", "Toronto", "NA", 43.6532, -79.3832, 64503, "Example Cable Canada"},
	{"198.51.100.96/27", "BR", "Brazil", "São Paulo", "SA", -23.5505, -46.6333, 64504, "Example Telecom Brazil"},
	{"198.51.100.128/27", "MX", "Mexico", "Guadalajara", "NA", 20.6597, -103.3496, 64505, "Example Telecom Mexico"},
	{"198.51.100.160/27", "NG", "Nigeria", "Lagos", "AF", 6.5244, 3.3792, 64506, "Example Wireless Nigeria"},
	{"198.51.100.192/26", "ZA", "South Africa", "Cape Town", "AF", -33.9249, 18.4241, 64507, "Example Carrier South"},
	{"203.0.113.0/27", "IN", "India", "Bengaluru", "AS", 12.9716, 77.5946, 64508, "Example Networks India"},
	{"203.0.113.32/27", "JP", "Japan", "Osaka", "AS", 34.6937, 135.5023, 64509, "Example Optical Japan"},
	{"203.0.113.64/27", "SG", "Singapore", "Singapore", "AS", 1.3521, 103.8198, 64510, "Example Carrier Singapore"},
	{"203.0.113.96/27", "AU", "Australia", "Melbourne", "OC", -37.8136, 144.9631, 64511, "Example Carrier Australia"},
	{"203.0.113.128/27", "KE", "Kenya", "Nairobi", "AF", -1.2921, 36.8219, 65537, "Example Wireless Kenya"},
	{"203.0.113.160/27", "FR", "France", "Paris", "EU", 48.8566, 2.3522, 65536, "Example Hosting"},
	{"203.0.113.192/27", "PA", "Panama", "Panama City", "NA", 8.9824, -79.5199, 65538, "Example Private Network"},
	{"203.0.113.224/27", "CH", "Switzerland", "Zürich", "EU", 47.3769, 8.5417, 65539, "Example Relay Association"},
	{"2001:db8:1::/48", "DE", "Germany", "Munich", "EU", 48.1351, 11.5820, 64496, "Example Carrier Germany"},
	{"2001:db8:2::/48", "US", "United States", "Denver", "NA", 39.7392, -104.9903, 64502, "Example Carrier America"},
	{"2001:db8:3::/48", "JP", "Japan", "Sapporo", "AS", 43.0618, 141.3545, 64509, "Example Optical Japan"},
	{"2001:db8:4::/48", "IE", "Ireland", "Dublin", "EU", 53.3498, -6.2603, 64501, "Example Carrier Britain"},
	{"2001:db8:ff::/48", "CH", "Switzerland", "Zürich", "EU", 47.3769, 8.5417, 65539, "Example Relay Association"},
}

// anonymous networks and what they are, by the database's keys.
var anonymous = []struct {
	network string
	flags   []mmdbtype.String
}{
	{"192.0.2.192/26", []mmdbtype.String{"is_hosting_provider"}},
	{"203.0.113.160/27", []mmdbtype.String{"is_hosting_provider"}},
	{"203.0.113.192/27", []mmdbtype.String{"is_anonymous_vpn"}},
	{"203.0.113.224/27", []mmdbtype.String{"is_tor_exit_node"}},
	{"2001:db8:ff::/48", []mmdbtype.String{"is_tor_exit_node", "is_public_proxy"}},
}

// WriteGeoIP writes a City, an ASN and an Anonymous-IP database into directory
// and returns their paths. They know the documentation ranges and nothing else.
func WriteGeoIP(directory string) ([]string, error) {
	return geoIPBuild{places, DefaultStart}.write(directory)
}

// WriteNextGeoIP is WriteGeoIP for a build a month later, when every network
// has moved to the next place. Files that are there are replaced as a whole.
func WriteNextGeoIP(directory string) ([]string, error) {
	moved := slices.Clone(places)
	for i := range moved {
		moved[i] = places[(i+1)%len(places)]
		moved[i].network = places[i].network
	}
	return geoIPBuild{moved, DefaultStart.AddDate(0, 1, 0)}.write(directory)
}

// geoIPBuild is what one build of the databases knows.
type geoIPBuild struct {
	places []place
	at     time.Time
}

func (b geoIPBuild) write(directory string) ([]string, error) {
	databases := []struct {
		kind   string
		record func(place) mmdbtype.Map
	}{
		{"GeoLite2-City", cityRecord},
		{"GeoLite2-ASN", asnRecord},
		{"GeoIP2-Anonymous-IP", nil},
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, fmt.Errorf("generate GeoIP databases: %w", err)
	}
	var paths []string
	for _, database := range databases {
		content, err := b.database(database.kind, database.record)
		if err != nil {
			return nil, fmt.Errorf("generate GeoIP database %s: %w", database.kind, err)
		}
		path := filepath.Join(directory, database.kind+".mmdb")
		err = os.WriteFile(path+".new", content, 0o644) //nolint:gosec // nothing secret in it
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			return nil, fmt.Errorf("generate GeoIP database %s: %w", database.kind, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

func (b geoIPBuild) database(kind string, record func(place) mmdbtype.Map) ([]byte, error) {
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		BuildEpoch:              b.at.Unix(),
		DatabaseType:            kind,
		Description:             map[string]string{"en": "auditstream demonstration: ranges for documentation, made-up carriers"},
		IncludeReservedNetworks: true, // documentation ranges are reserved
		Languages:               []string{"en"},
		RecordSize:              24,
	})
	if err != nil {
		return nil, err
	}
	insert := func(network string, value mmdbtype.Map) error {
		prefix, err := netip.ParsePrefix(network)
		if err != nil {
			return err
		}
		address := prefix.Masked().Addr()
		return tree.Insert(&net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(prefix.Bits(), address.BitLen())}, value)
	}
	if record != nil {
		for _, p := range b.places {
			if err := insert(p.network, record(p)); err != nil {
				return nil, err
			}
		}
	} else {
		for _, a := range anonymous {
			value := mmdbtype.Map{"is_anonymous": mmdbtype.Bool(true)}
			for _, flag := range a.flags {
				value[flag] = mmdbtype.Bool(true)
			}
			if err := insert(a.network, value); err != nil {
				return nil, err
			}
		}
	}
	var content bytes.Buffer
	if _, err := tree.WriteTo(&content); err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}

func cityRecord(p place) mmdbtype.Map {
	names := func(name string) mmdbtype.Map {
		return mmdbtype.Map{"names": mmdbtype.Map{"en": mmdbtype.String(name)}}
	}
	country := names(p.name)
	country["iso_code"] = mmdbtype.String(p.country)
	return mmdbtype.Map{
		"city":               names(p.city),
		"continent":          mmdbtype.Map{"code": mmdbtype.String(p.continent)},
		"country":            country,
		"registered_country": country,
		"location": mmdbtype.Map{
			"accuracy_radius": mmdbtype.Uint16(50),
			"latitude":        mmdbtype.Float64(p.latitude),
			"longitude":       mmdbtype.Float64(p.longitude),
		},
	}
}

func asnRecord(p place) mmdbtype.Map {
	return mmdbtype.Map{
		"autonomous_system_number":       mmdbtype.Uint32(p.number),
		"autonomous_system_organization": mmdbtype.String(p.organization),
	}
}
