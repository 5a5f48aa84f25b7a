package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"strings"

	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/generate"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/services/auditstream/replay"
	"github.com/auditstream/auditstream/services/auditstream/stack"
)

// replayWithNewPlaces replaces the GeoIP databases by a later build, as
// geoipupdate does, replays the topic raw into the table, and compares: the ids
// have to be the same, each once, and the places those of the new build.
func (d *demo) replayWithNewPlaces(ctx context.Context) (ok bool, err error) {
	d.say("\nA new GeoIP build, and a replay of raw into the same table\n")
	view := d.queries
	database, _ := clickhouse.TableName(d.cfg.ClickHouse)
	name := d.cfg.ClickHouse.View
	view.table = clickhouse.Quote(database) + "." + clickhouse.Quote(name)
	before := make(map[string]string)
	if err := view.places(ctx, before); err != nil {
		return false, err
	}
	if _, err := generate.WriteNextGeoIP(filepath.Join(d.directory, "geoip")); err != nil {
		return false, err
	}
	sources, err := stack.AuditSources(d.cfg.Sources)
	if err != nil {
		return false, err
	}
	summary, err := replay.Run(ctx, replay.Options{
		Config: d.cfg, Sources: sources, From: replay.FromRaw, Name: "geoip",
		Log: slog.New(slog.DiscardHandler), Out: indented{d},
	})
	if err != nil {
		return false, err
	}
	d.say("  %s\n", summary)

	after := make(map[string]string)
	if err := view.places(ctx, after); err != nil {
		return false, err
	}
	var count, distinct int
	if err := view.numbers(ctx, "SELECT count(), uniqExact(id) FROM {table}", &count, &distinct); err != nil {
		return false, err
	}
	placed, moved := 0, 0
	for id, place := range before {
		if place == "" {
			continue
		}
		placed++
		if after[id] != place {
			moved++
		}
	}
	sameIDs := maps.EqualFunc(before, after, func(string, string) bool { return true })
	d.say("  %s     count() %s, uniqExact(id) %s; the same ids as before: %s\n", name, digits.Group(count), digits.Group(distinct), yesNo(sameIDs))
	d.say("  places         %s of %s rows that have one have another one now\n", digits.Group(moved), digits.Group(placed))
	return sameIDs && count == distinct && moved == placed, nil
}

// places are the rows' places, by id.
func (q queries) places(ctx context.Context, into map[string]string) (err error) {
	return q.lines(ctx, "SELECT id, concat(srcASCountryCode, srcCity) FROM {table}", func(line string) error {
		id, place, found := strings.Cut(line, "\t")
		if !found {
			return fmt.Errorf("query ClickHouse: %q is no id and place", line)
		}
		if _, twice := into[id]; twice {
			return errors.New("the view shows " + id + " twice")
		}
		into[id] = place
		return nil
	})
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "NO"
}

// indented writes below what the demo says.
type indented struct{ d *demo }

func (w indented) Write(text []byte) (int, error) {
	w.d.say("  %s", text)
	return len(text), nil
}
