// Package geo says where an address is, from MaxMind databases: the enricher's
// source for the src and dst columns. Any set of database kinds works, none as
// well. Where several know the same, this is the order, column by column:
//
//	country             Enterprise, City, Country
//	city, coordinates   Enterprise, City
//	AS number and name  Enterprise, ISP, ASN
//	ISP                 Enterprise, ISP
//	connection type     Enterprise, Connection-Type
//	user type           Enterprise
//	anonymous           Anonymous-Plus and Anonymous-IP together
//
// A file's kind is that of its metadata, whatever its name; of two files of one
// kind the one built later is used. Files are read into memory whole, so that
// replacing, truncating or removing one never touches a lookup under way.
package geo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oschwald/geoip2-golang/v2"
	"github.com/oschwald/maxminddb-golang/v2"
	"github.com/prometheus/client_golang/prometheus"
)

const defaultCheckInterval = time.Minute

// Options name the files.
type Options struct {
	Directory     string // every *.mmdb in it
	Files         []string
	CheckInterval time.Duration // between looks for a replacement
	Log           *slog.Logger
	Registerer    prometheus.Registerer // optional
}

// Databases are the files in use. Lookups go through a Locator.
type Databases struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	current atomic.Pointer[set]

	// Only New and Run touch these, one after the other.
	loaded  map[string]*database   // in use or superseded, by path
	refused map[string]fs.FileInfo // not to be read again until it changes
	missing map[string]bool        // said once
}

// kind is what a database knows; its order is the order of metrics.
type kind int

const (
	enterprise kind = iota
	city
	country
	isp
	asn
	connectionType
	anonymousPlus
	anonymousIP
	kinds
)

var kindNames = [kinds]string{
	"Enterprise", "City", "Country", "ISP", "ASN", "Connection-Type", "Anonymous-Plus", "Anonymous-IP",
}

type database struct {
	kind   kind
	path   string
	info   fs.FileInfo
	reader *geoip2.Reader
	built  time.Time
}

// set is the databases of one moment. It never changes; a replacement makes
// another one, and by its address a Locator knows that what it remembers is old.
type set struct {
	by [kinds]*database
}

func (s *set) empty() bool {
	return !slices.ContainsFunc(s.by[:], func(db *database) bool { return db != nil })
}

// ErrRefused marks a file that is not used: not a database, broken, or of a
// kind that has nothing to say here.
var ErrRefused = errors.New("database refused")

// New reads the files there are. A file that is missing or refused is said in
// the log and tried again when it changes; it is no reason not to start.
func New(opts Options) (*Databases, error) {
	if opts.CheckInterval <= 0 {
		opts.CheckInterval = defaultCheckInterval
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	d := &Databases{
		opts:    opts,
		log:     opts.Log,
		loaded:  make(map[string]*database),
		refused: make(map[string]fs.FileInfo),
		missing: make(map[string]bool),
	}
	d.current.Store(&set{})
	var err error
	if d.metrics, err = newMetrics(opts.Registerer, d); err != nil {
		return nil, err
	}
	d.check()
	if d.current.Load().empty() {
		d.log.Warn("no GeoIP database in use: columns of place and network stay empty",
			"directory", opts.Directory, "files", opts.Files)
	}
	return d, nil
}

// None tells whether no database is in use.
func (d *Databases) None() bool { return d.current.Load().empty() }

// Run looks for replaced files until ctx is done.
func (d *Databases) Run(ctx context.Context) error {
	if d.opts.Directory == "" && len(d.opts.Files) == 0 {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(d.opts.CheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			d.check()
		}
	}
}

// check reads what has changed, and puts a new set in place if anything has.
func (d *Databases) check() {
	changed := false
	for _, path := range d.paths() {
		info, err := os.Stat(path)
		if err != nil {
			if !d.missing[path] {
				d.missing[path] = true
				d.log.Warn("GeoIP database can't be read", "file", path, "error", err, "kept", d.loaded[path] != nil)
			}
			continue
		}
		delete(d.missing, path)
		if before := d.loaded[path]; before != nil && same(before.info, info) {
			delete(d.refused, path) // the old version is back
			continue
		}
		if before := d.refused[path]; before != nil && same(before, info) {
			continue
		}
		loaded, err := load(path)
		if err != nil {
			d.refused[path] = info
			d.metrics.refused.Inc()
			d.log.Error("GeoIP database refused", "file", path, "error", err, "kept", d.loaded[path] != nil)
			continue
		}
		delete(d.refused, path)
		d.loaded[path] = loaded
		d.metrics.loads.Inc()
		d.log.Info("GeoIP database loaded",
			"file", path, "type", loaded.reader.Metadata().DatabaseType, "built", loaded.built)
		changed = true
	}
	if changed {
		d.current.Store(newSet(d.loaded))
	}
}

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func (d *Databases) paths() []string {
	paths := slices.Clone(d.opts.Files)
	if d.opts.Directory != "" {
		entries, err := os.ReadDir(d.opts.Directory)
		if err != nil && !d.missing[d.opts.Directory] {
			d.missing[d.opts.Directory] = true
			d.log.Warn("directory of GeoIP databases can't be read", "directory", d.opts.Directory, "error", err)
		} else if err == nil {
			delete(d.missing, d.opts.Directory)
		}
		for _, entry := range entries {
			if strings.EqualFold(filepath.Ext(entry.Name()), ".mmdb") {
				paths = append(paths, filepath.Join(d.opts.Directory, entry.Name()))
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

func newSet(loaded map[string]*database) *set {
	result := &set{}
	for _, path := range slices.Sorted(maps.Keys(loaded)) {
		db := loaded[path]
		if other := result.by[db.kind]; other == nil || db.built.After(other.built) {
			result.by[db.kind] = db
		}
	}
	return result
}

// load reads and verifies one file. The information is taken from the open
// file: a rename in between must not pair one file's bytes with another's state.
func load(path string) (db *database, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", ErrRefused)
	}
	data := make([]byte, info.Size())
	if _, err := readFull(file, data); err != nil {
		return nil, fmt.Errorf("%w: the file changed while it was read: %w", ErrRefused, err)
	}
	db, err = parse(data)
	if err != nil {
		return nil, err
	}
	db.path, db.info = path, info
	return db, nil
}

func readFull(file *os.File, into []byte) (int, error) {
	read := 0
	for read < len(into) {
		n, err := file.Read(into[read:])
		read += n
		if err != nil {
			return read, err
		}
	}
	return read, nil
}

// parse checks every node and record before the database is used. The bytes
// are whatever someone put into the directory, so a panic in there is an error.
func parse(data []byte) (db *database, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			db, err = nil, fmt.Errorf("%w: %v", ErrRefused, problem)
		}
	}()
	raw, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err := raw.Verify(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	reader, err := geoip2.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	found, ok := kindOf(reader.Metadata().DatabaseType)
	if !ok {
		return nil, fmt.Errorf("%w: a database of type %s has no column to fill", ErrRefused, reader.Metadata().DatabaseType)
	}
	return &database{kind: found, reader: reader, built: raw.Metadata.BuildTime()}, nil
}

// kindOf takes a type that geoip2 knows. Its names come in many variants
// (GeoLite2-City, GeoIP2-City-Europe, DBIP-Location (compat=City)).
func kindOf(databaseType string) (kind, bool) {
	for _, known := range []struct {
		part string
		kind kind
	}{
		{"Enterprise", enterprise},
		{"Anonymous-Plus", anonymousPlus},
		{"Anonymous-IP", anonymousIP},
		{"Connection-Type", connectionType},
		{"ASN", asn},
		{"Country", country},
		{"City", city},
		{"ISP", isp},
	} {
		if strings.Contains(databaseType, known.part) {
			return known.kind, true
		}
	}
	return 0, false
}
