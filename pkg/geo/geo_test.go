package geo_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/geo"
)

func build(t testing.TB, kind string, epoch int64, records map[string]mmdbtype.Map) []byte {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType: kind, BuildEpoch: epoch, RecordSize: 24, IncludeReservedNetworks: true,
		Description: map[string]string{"en": "test"}, Languages: []string{"en"},
	})
	require.NoError(t, err)
	for network, record := range records {
		_, prefix, err := net.ParseCIDR(network)
		require.NoError(t, err)
		require.NoError(t, tree.Insert(prefix, record))
	}
	var content bytes.Buffer
	_, err = tree.WriteTo(&content)
	require.NoError(t, err)
	return content.Bytes()
}

func text(s string) mmdbtype.String { return mmdbtype.String(s) }

func cityOf(country, city string, latitude, longitude float64) mmdbtype.Map {
	return mmdbtype.Map{
		"country":  mmdbtype.Map{"iso_code": text(country)},
		"city":     mmdbtype.Map{"names": mmdbtype.Map{"en": text(city), "de": text("anders")}},
		"location": mmdbtype.Map{"latitude": mmdbtype.Float64(latitude), "longitude": mmdbtype.Float64(longitude)},
	}
}

// put replaces a file as geoipupdate does.
func put(t testing.TB, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", content, 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

func open(t testing.TB, opts geo.Options) *geo.Databases {
	t.Helper()
	databases, err := geo.New(opts)
	require.NoError(t, err)
	return databases
}

func locate(databases *geo.Databases, addr string) (event.Endpoint, string) {
	into := event.Endpoint{IP: addr, City: "left over"}
	anonymous := databases.Locator().Locate(netip.MustParseAddr(addr), &into)
	return into, anonymous
}

func TestEveryKindAndItsPrecedence(t *testing.T) {
	t.Parallel()
	network := func(number uint32, organization string) mmdbtype.Map {
		return mmdbtype.Map{
			"autonomous_system_number":       mmdbtype.Uint32(number),
			"autonomous_system_organization": text(organization),
		}
	}
	isp := network(64501, "ISP's AS")
	isp["isp"] = text("ISP's ISP")
	enterprise := cityOf("FR", "Lyon", 45.7, 4.8)
	enterprise["traits"] = mmdbtype.Map{
		"autonomous_system_number":       mmdbtype.Uint32(64502),
		"autonomous_system_organization": text("Enterprise's AS"),
		"isp":                            text("Enterprise's ISP"),
		"connection_type":                text("Corporate"),
		"user_type":                      text("business"),
	}
	const at = "203.0.113.0/24"
	one := func(kind string, record mmdbtype.Map) []byte {
		return build(t, kind, 1_700_000_000, map[string]mmdbtype.Map{at: record})
	}
	files := map[string][]byte{
		"country": one("GeoLite2-Country", mmdbtype.Map{"country": mmdbtype.Map{"iso_code": text("BE")}}),
		"city":    one("GeoIP2-City", cityOf("DE", "Kiel", 54.3, 10.1)),
		"asn":     one("GeoLite2-ASN", network(64500, "ASN's AS")),
		"isp":     one("GeoIP2-ISP", isp),
		"type":    one("GeoIP2-Connection-Type", mmdbtype.Map{"connection_type": text("Cellular")}),
		"all":     one("GeoIP2-Enterprise", enterprise),
		"anonymous": one("GeoIP2-Anonymous-IP", mmdbtype.Map{
			"is_anonymous": mmdbtype.Bool(true), "is_tor_exit_node": mmdbtype.Bool(true), "is_anonymous_vpn": mmdbtype.Bool(true)}),
		"plain": one("GeoIP2-Anonymous-IP", mmdbtype.Map{"is_anonymous": mmdbtype.Bool(true)}),
		"plus":  one("GeoIP-Anonymous-Plus", mmdbtype.Map{"is_hosting_provider": mmdbtype.Bool(true)}),
		"empty": one("GeoIP2-Enterprise", mmdbtype.Map{}),
	}
	const ip = "203.0.113.9"
	for name, test := range map[string]struct {
		files     []string
		want      event.Endpoint
		anonymous string
	}{
		"none":    {nil, event.Endpoint{}, ""},
		"country": {[]string{"country"}, event.Endpoint{ASCountryCode: "BE"}, ""},
		"city before country": {[]string{"country", "city"},
			event.Endpoint{ASCountryCode: "DE", City: "Kiel", Latitude: 54.3, Longitude: 10.1}, ""},
		"asn": {[]string{"asn"}, event.Endpoint{ASNumber: 64500, ASOrganization: "ASN's AS"}, ""},
		"isp before asn": {[]string{"asn", "isp"},
			event.Endpoint{ASNumber: 64501, ASOrganization: "ISP's AS", ISP: "ISP's ISP"}, ""},
		"connection type": {[]string{"type"}, event.Endpoint{ConnectionType: "Cellular"}, ""},
		"enterprise before all": {[]string{"all", "asn", "city", "country", "isp", "type"}, event.Endpoint{
			ASCountryCode: "FR", City: "Lyon", Latitude: 45.7, Longitude: 4.8, ASNumber: 64502, ASOrganization: "Enterprise's AS",
			ISP: "Enterprise's ISP", ConnectionType: "Corporate", UserType: "business"}, ""},
		"an empty record takes nothing away": {[]string{"empty", "city", "asn"}, event.Endpoint{
			ASCountryCode: "DE", City: "Kiel", Latitude: 54.3, Longitude: 10.1, ASNumber: 64500, ASOrganization: "ASN's AS"}, ""},
		"anonymous":               {[]string{"anonymous"}, event.Endpoint{}, "vpn,tor"},
		"anonymous and no more":   {[]string{"plain"}, event.Endpoint{}, "anonymous"},
		"both kinds of anonymous": {[]string{"anonymous", "plus"}, event.Endpoint{}, "vpn,tor,hosting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			directory := t.TempDir()
			for _, file := range test.files {
				put(t, filepath.Join(directory, "no-telling-name-"+file+".mmdb"), files[file])
			}
			databases := open(t, geo.Options{Directory: directory})
			got, anonymous := locate(databases, ip)
			test.want.IP = ip
			require.Equal(t, test.want, got)
			require.Equal(t, test.anonymous, anonymous)
			mapped, _ := locate(databases, "::ffff:"+ip)
			mapped.IP = ip
			require.Equal(t, test.want, mapped)
			for _, elsewhere := range []string{"198.51.100.1", "10.0.0.1", "::1", "fe80::1%eth0", "2001:db8::1"} {
				got, anonymous := locate(databases, elsewhere)
				require.Equal(t, event.Endpoint{IP: elsewhere}, got)
				require.Empty(t, anonymous)
			}
		})
	}
}

func TestTheLaterBuildOfOneKindIsUsed(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	put(t, filepath.Join(directory, "a.mmdb"), build(t, "GeoLite2-City", 2000, map[string]mmdbtype.Map{"192.0.2.0/24": cityOf("AA", "new", 1, 1)}))
	put(t, filepath.Join(directory, "b.mmdb"), build(t, "GeoIP2-City", 1000, map[string]mmdbtype.Map{"192.0.2.0/24": cityOf("BB", "old", 1, 1)}))
	got, _ := locate(open(t, geo.Options{Directory: directory}), "192.0.2.1")
	require.Equal(t, "new", got.City)
}

// Lookups never fail, never mix two builds, and see the new one in the end; a
// broken file changes nothing.
func TestReplacementUnderLookups(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	path := filepath.Join(directory, "city.mmdb")
	version := func(n int) []byte {
		return build(t, "GeoLite2-City", int64(1000+n), map[string]mmdbtype.Map{
			"192.0.2.0/24": cityOf(strings.Repeat(string(rune('A'+n)), 2), strings.Repeat(string(rune('A'+n)), 2), float64(n+1), float64(n+1)),
		})
	}
	put(t, path, version(0))
	registry := prometheus.NewRegistry()
	var log syncBuffer
	databases := open(t, geo.Options{
		Files: []string{path}, CheckInterval: time.Millisecond, Registerer: registry,
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { require.NoError(t, databases.Run(ctx)) })

	var seen atomic.Pointer[string]
	for range 4 {
		running.Go(func() {
			locator := databases.Locator()
			for ctx.Err() == nil {
				for i := range 20 {
					var into event.Endpoint
					locator.Locate(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), &into)
					if into.City == "" || into.City != into.ASCountryCode || into.Latitude != float64(into.City[0]-'A'+1) {
						t.Errorf("mixed or missing: %+v", into)
						return
					}
					city := into.City
					seen.Store(&city)
				}
			}
		})
	}
	saw := func(city string) {
		require.Eventually(t, func() bool { got := seen.Load(); return got != nil && *got == city }, 20*time.Second, time.Millisecond)
	}
	saw("AA")
	for n := 1; n < 6; n++ {
		put(t, path, version(n))
		saw(strings.Repeat(string(rune('A'+n)), 2))
	}
	for i, broken := range [][]byte{{}, []byte("no database"), version(6)[:300], build(t, "GeoIP2-Domain", 1, nil)} {
		put(t, path, broken)
		require.Eventually(t, func() bool { return strings.Count(log.String(), "GeoIP database refused") > i }, 20*time.Second, time.Millisecond)
	}
	saw("FF")
	// In place and not whole, as a careless copy does.
	require.NoError(t, os.WriteFile(path, version(6)[:500], 0o600))
	require.Eventually(t, func() bool { return strings.Count(log.String(), "GeoIP database refused") > 4 }, 20*time.Second, time.Millisecond)
	require.NoError(t, os.Remove(path))
	put(t, path, version(7))
	saw("HH")
	cancel()
	running.Wait()
	families, err := registry.Gather()
	require.NoError(t, err)
	values := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			values[family.GetName()] += metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
		}
	}
	require.InDelta(t, 1007, values["auditstream_enricher_geoip_database_build_timestamp_seconds"], 0)
	require.InDelta(t, 1, values["auditstream_enricher_geoip_database_info"], 0)
	require.Greater(t, values["auditstream_enricher_geoip_database_age_seconds"], 1e9)
	require.GreaterOrEqual(t, values["auditstream_enricher_geoip_refused_files_total"], 5.0)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestStartsWithoutDatabasesAndSaysSoOnce(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	databases := open(t, geo.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, databases.Run(ctx))
	got, _ := locate(databases, "192.0.2.1")
	require.Equal(t, event.Endpoint{IP: "192.0.2.1"}, got)
	require.Equal(t, 1, strings.Count(log.String(), "no GeoIP database"))
}

func TestManyAddresses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.mmdb")
	put(t, path, build(t, "GeoLite2-City", 1, map[string]mmdbtype.Map{"198.18.0.0/15": cityOf("XX", "X", 1, 1)}))
	locator := open(t, geo.Options{Files: []string{path}}).Locator()
	for range 2 {
		for i := range 30_000 {
			var into event.Endpoint
			locator.Locate(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), &into)
			require.Equal(t, "X", into.City)
		}
	}
}

func corpus(t *testing.T) string {
	t.Helper()
	directory := os.Getenv("AUDITSTREAM_CORPUS")
	if directory == "" {
		directory = filepath.Join("..", "..", "..", "shared", "corpus")
	}
	directory = filepath.Join(directory, "maxmind")
	if _, err := os.Stat(directory); err != nil {
		t.Skip("MaxMind's published test databases are not there (set AUDITSTREAM_CORPUS to the corpus)")
	}
	return directory
}

// Whatever is broken in a file, it is refused or answers nothing; it never
// takes the process down or keeps it busy.
func TestBadData(t *testing.T) {
	t.Parallel()
	directory := corpus(t)
	files, err := filepath.Glob(filepath.Join(directory, "*.mmdb"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			var log syncBuffer
			done := make(chan struct{})
			go func() {
				defer close(done)
				databases := open(t, geo.Options{Files: []string{file}, Log: slog.New(slog.NewTextHandler(&log, nil))})
				for _, addr := range []string{"1.1.1.1", "81.2.69.142", "2001:218::1", "255.255.255.255", "ffff::1"} {
					locate(databases, addr)
				}
			}()
			select {
			case <-done:
			case <-time.After(30 * time.Second):
				require.Fail(t, "hangs")
			}
			name := filepath.Base(file)
			if strings.HasPrefix(name, "bad-data") || strings.Contains(name, "Broken") || strings.Contains(name, "Invalid") {
				require.Contains(t, log.String(), "refused", name)
			}
		})
	}
}

func TestPublishedDatabases(t *testing.T) {
	t.Parallel()
	directory := corpus(t)
	in := func(names ...string) *geo.Databases {
		var files []string
		for _, name := range names {
			files = append(files, filepath.Join(directory, "test-data__"+name+"-Test.mmdb"))
		}
		return open(t, geo.Options{Files: files})
	}
	got, _ := locate(in("GeoIP2-City", "GeoIP2-ISP", "GeoIP2-Connection-Type"), "81.2.69.142")
	require.Equal(t, "GB", got.ASCountryCode)
	require.Equal(t, "London", got.City)
	require.InDelta(t, 51.5142, got.Latitude, 1e-6)
	require.InDelta(t, -0.0931, got.Longitude, 1e-6)

	got, _ = locate(in("GeoIP2-ISP", "GeoLite2-ASN"), "1.128.0.1")
	require.Equal(t, event.Endpoint{IP: "1.128.0.1", ASNumber: 1221, ASOrganization: "Telstra Pty Ltd", ISP: "Telstra Internet"}, got)

	_, anonymous := locate(in("GeoIP2-Anonymous-IP"), "81.2.69.1")
	require.Equal(t, "vpn,tor,proxy,residential-proxy,hosting", anonymous)
	got, _ = locate(in("GeoIP2-Connection-Type"), "80.214.0.1")
	require.NotEmpty(t, got.ConnectionType)
}

func BenchmarkLocate(b *testing.B) {
	path := filepath.Join(b.TempDir(), "x.mmdb")
	put(b, path, build(b, "GeoLite2-City", 1, map[string]mmdbtype.Map{"198.18.0.0/15": cityOf("XX", "X", 1, 1)}))
	locator := open(b, geo.Options{Files: []string{path}}).Locator()
	var into event.Endpoint
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		locator.Locate(netip.AddrFrom4([4]byte{198, 18, 0, byte(i)}), &into)
	}
}
