package config

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

const secretText = "[set]"

// String tells whether the secret is set, never what it is.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return secretText
}

// Format keeps every verb from printing the secret, also those that don't fit
// a string and would print the value in their complaint.
func (s Secret) Format(state fmt.State, verb rune) {
	text := s.String()
	if verb == 'q' || (verb == 'v' && state.Flag('#')) {
		text = strconv.Quote(text)
	}
	// Nothing is to be done about a writer that fails: fmt keeps its error.
	_, _ = io.WriteString(state, text)
}

// MarshalText is the form in JSON, YAML and text logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML is the form in YAML.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// LogValue is the form in a log.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Reveal is the secret itself, for the connection that needs it.
func (s Secret) Reveal() string { return string(s) }

// units of sizes, the largest of each family first.
var units = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
}

// ParseSize reads a number of bytes with its unit: 64KB, 16MiB, 1.5GiB.
func ParseSize(text string) (Size, error) {
	complaint := fmt.Errorf("%q is not a size; write a number with a unit, such as 16MiB, 64KB or 512B", text)
	text = strings.TrimSpace(text)
	for _, unit := range units {
		digits, found := strings.CutSuffix(text, unit.name)
		if !found {
			continue
		}
		number, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || math.IsNaN(number) || strings.ContainsAny(digits, "xXpP_eEiI") {
			return 0, complaint
		}
		bytes := number * float64(unit.bytes)
		if bytes >= math.MaxInt64 || bytes <= math.MinInt64 {
			return 0, fmt.Errorf("%q is too large", text)
		}
		return Size(bytes), nil
	}
	return 0, complaint
}

// String is the size in the largest binary unit that gives a whole number.
func (s Size) String() string {
	if s == 0 {
		return "0B"
	}
	for _, unit := range units[:4] {
		if int64(s)%unit.bytes == 0 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// MarshalText is the form in JSON, YAML and text logs.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseDuration reads Go's durations and days: 500ms, 30s, 1h30m, 7d, 1d12h.
// A number without a unit is refused, whatever it might mean.
func ParseDuration(text string) (time.Duration, error) {
	complaint := fmt.Errorf("%q is not a duration; write a number with a unit, such as 500ms, 30s, 1h30m or 7d", text)
	rest := strings.TrimSpace(text)
	var days time.Duration
	if number, after, found := strings.Cut(rest, "d"); found {
		n, err := strconv.ParseUint(number, 10, 16) // 65,535 days are in range
		if err != nil {
			return 0, complaint
		}
		days = time.Duration(n) * 24 * time.Hour
		if rest = after; rest == "" {
			return days, nil
		}
	}
	if rest == "0" { // Go takes it without a unit
		return 0, complaint
	}
	duration, err := time.ParseDuration(rest)
	if err != nil || (days != 0 && (duration < 0 || duration > math.MaxInt64-days)) {
		return 0, complaint
	}
	return days + duration, nil
}

// FormatDuration is the shortest text that ParseDuration reads as d.
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
