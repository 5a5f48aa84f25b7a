package clickhouse

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// copyRows is about how many rows of the table are compared at once: their ids
// are held in the server's memory.
const copyRows = 2_000_000

// copyAttempts bounds how often the same rows are copied and found missing
// again.
const copyAttempts = 5

// slice is a part of the sorting key: a source's rows received in [from, to).
type slice struct {
	source   string
	from, to uint32
	hours    map[hour]fingerprint
}

// hour is a source's rows received in one hour since 1970.
type hour struct {
	source string
	number uint32
}

// fingerprint is the same for the same rows. Rows are only ever added, or
// removed as a twin or past their time.
type fingerprint struct{ rows, ids uint64 }

// alive leaves out what the table may remove at any moment.
const alive = "NOT (sourceTTL > 0 AND receivedAt + toIntervalDay(sourceTTL) <= now())"

// where selects the slice's rows. The workspace is left out on purpose: the
// other table may have the same row under another one.
func (c slice) where() string {
	return fmt.Sprintf("sourceID = %s AND receivedAt >= toDateTime(%d) AND receivedAt < toDateTime(%d)", quoteText(c.source), c.from, c.to)
}

// CopyMissing copies into the other table each row of the live one whose id it
// does not have. It goes through the table in slices of its sorting key;
// progress is told of each. It may be broken off and begun again at any point. id
// tells this swap's copies from another's.
//
// What it has found to be whole it looks at again only where the live table has
// changed since. With prove it returns when there is none left, which it has looked for: nobody
// may write to the live table then, or there is no end to it.
func (s *Swap) CopyMissing(ctx context.Context, id string, prove bool, progress func(slices, of int, copied uint64)) (copied uint64, err error) {
	known, err := knownSettings(ctx, s.conn)
	if err != nil {
		return 0, err
	}
	slices, err := s.slices(ctx, known)
	if err != nil {
		return 0, err
	}
	for i, part := range slices {
		count, whole, err := s.copySlice(ctx, id, part, prove, known)
		copied += count
		if err != nil {
			return copied, err
		}
		if whole {
			// The fingerprints are older than what was found.
			maps.Copy(s.proven, part.hours)
		}
		progress(i+1, len(slices), copied)
	}
	return copied, nil
}

// slices cuts what is not known to be whole of the live table, hour by hour,
// into parts of a bounded size.
func (s *Swap) slices(ctx context.Context, known map[string]bool) ([]slice, error) {
	const seconds = 3600
	// An answer cut short by the user's profile would leave rows behind.
	rows, err := s.conn.Query(clickhouse.Context(ctx, clickhouse.WithSettings(settingsOf(proofRequirements, known))),
		"SELECT sourceID, intDiv(toUInt32(receivedAt), 3600) AS hour, count(), sum(cityHash64(id)) FROM "+s.live.String()+" GROUP BY sourceID, hour ORDER BY sourceID, hour")
	if err != nil {
		return nil, fmt.Errorf("cut table %s: %w", s.live, err)
	}
	var slices []slice
	var held uint64
	for rows.Next() {
		var source string
		var number uint32
		var found fingerprint
		if err := rows.Scan(&source, &number, &found.rows, &found.ids); err != nil {
			_ = rows.Close()
			return nil, fmt.Errorf("cut table %s: %w", s.live, err)
		}
		if before, known := s.proven[hour{source, number}]; known && before == found {
			held = copyRows // nothing is joined over it
			continue
		}
		if last := len(slices) - 1; last >= 0 && slices[last].source == source && held+found.rows <= copyRows {
			slices[last].to = (number + 1) * seconds
			slices[last].hours[hour{source, number}] = found
			held += found.rows
			continue
		}
		slices = append(slices, slice{source, number * seconds, (number + 1) * seconds, map[hour]fingerprint{{source, number}: found}})
		held = found.rows
	}
	if err := closeRows(rows); err != nil {
		return nil, fmt.Errorf("cut table %s: %w", s.live, err)
	}
	return slices, nil
}

// copySlice copies once, or until nothing is missing. A copy's token says which rows it
// holds and which time it is that they are missing: a copy that an earlier
// process began and that is still under way is the same one.
func (s *Swap) copySlice(ctx context.Context, id string, part slice, prove bool, known map[string]bool) (copied uint64, whole bool, err error) {
	var before string
	for attempt := 1; ; attempt++ {
		count, doubled, digest, err := s.missing(ctx, part, known)
		if err != nil || count == 0 {
			return copied, err == nil, err
		}
		if copied > 0 && !prove {
			return copied, false, nil
		}
		which := fmt.Sprintf("%s %s %d %d %d %x", id, part.source, part.from, part.to, count, digest)
		if which != before {
			before, attempt = which, 1
		}
		if attempt > copyAttempts {
			return copied, false, fmt.Errorf("copy rows of source %s from %s to %s: %d of them stay missing however often they are inserted", part.source, s.live, s.other, count)
		}
		settings := settingsOf(proofRequirements, known)
		settings["async_insert"] = 0
		settings["max_partitions_per_insert_block"] = 0
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", which, attempt))
		settings["insert_deduplication_token"] = hex.EncodeToString(sum[:16])
		// Only what is there twice has to be collapsed, which takes long.
		final := ""
		if doubled {
			final = " FINAL"
		}
		statement := fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s%s WHERE %s",
			s.other, columnList(), columnList(), s.live, final, s.whereMissing(part))
		if err := s.conn.Exec(clickhouse.Context(ctx, clickhouse.WithSettings(settings)), statement); err != nil {
			return copied, false, fmt.Errorf("copy rows of source %s from %s to %s: %w", part.source, s.live, s.other, err)
		}
		copied += count
	}
}

// missing counts the ids that the other table lacks, and tells whether one of
// them has several rows.
func (s *Swap) missing(ctx context.Context, part slice, known map[string]bool) (count uint64, doubled bool, digest uint64, err error) {
	var rows uint64
	query := fmt.Sprintf("SELECT uniqExact(id), count(), sum(cityHash64(id)) FROM %s WHERE %s", s.live, s.whereMissing(part))
	err = s.conn.QueryRow(clickhouse.Context(ctx, clickhouse.WithSettings(settingsOf(proofRequirements, known))), query).Scan(&count, &rows, &digest)
	if err != nil {
		return 0, false, 0, fmt.Errorf("compare the ids of source %s in %s and %s: %w", part.source, s.live, s.other, err)
	}
	return count, rows > count, digest, nil
}

func (s *Swap) whereMissing(part slice) string {
	return fmt.Sprintf("%s AND %s AND id NOT IN (SELECT id FROM %s WHERE %s)", part.where(), alive, s.other, part.where())
}

func columnList() string {
	text := ""
	for i, column := range columns {
		if i > 0 {
			text += ", "
		}
		text += Quote(column.Name)
	}
	return text
}
